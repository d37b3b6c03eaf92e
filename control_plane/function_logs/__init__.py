"""What functions print: from Redis into SQL, searched and followed by their tenant."""
