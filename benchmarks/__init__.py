"""Measurements of mcp-backups: `python -m benchmarks`."""
