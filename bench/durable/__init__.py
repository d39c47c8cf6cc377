"""What it costs to lose nothing and repeat nothing: keys, many loaders, long streams, restarts, upserts."""
