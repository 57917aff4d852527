# Waits until the role of these secrets can open its database.
secret() { cat "/run/secrets/$PREFIX$1"; }
until PGUSER=$(secret user) PGPASSWORD=$(secret password) PGDATABASE=$(secret name) psql -X -q -w -c ''; do
  sleep 3
done
