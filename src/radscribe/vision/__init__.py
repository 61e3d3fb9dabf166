"""Vision: backbones that turn views into visual tokens, and image transforms."""
