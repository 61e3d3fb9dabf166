"""The phantom: synthetic studies whose findings are known exactly."""
