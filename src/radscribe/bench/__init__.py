"""Speed and memory of systems, measured on this machine or planned for a GPU."""
