"""Report decoding: beam search, greedy, sampling, and the caches that make it fast."""
