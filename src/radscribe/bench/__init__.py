"""Speed and memory: measured here, or planned for a GPU."""
