"""`python -m mcp_backups` is the command `mcp-backups`."""

from mcp_backups.cli import main

raise SystemExit(main())
