-- Who makes the ledger's tables, and who serves with them: `mcp-backups ledger migrate` gives the second what it needs,
-- which is to add to the log of events, and never to change it. For psql, in the database of the ledger.

\getenv owner_password OWNER_PASSWORD
\getenv server_password SERVER_PASSWORD

CREATE ROLE mcp_backups_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE mcp_backups LOGIN PASSWORD :'server_password';

SELECT current_database() AS ledger \gset
ALTER DATABASE :"ledger" OWNER TO mcp_backups_owner;
REVOKE ALL ON DATABASE :"ledger" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"ledger" TO mcp_backups;
