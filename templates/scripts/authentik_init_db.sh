secret() { cat "/run/secrets/$1"; }
as_admin() {
  PGUSER=$(secret db_admin_user) PGPASSWORD=$(secret db_admin_password) PGDATABASE=$1 \
    psql -X -q -v ON_ERROR_STOP=1
}

as_admin postgres <<'SQL'
\set role `cat /run/secrets/authentik_database_user`
\set password `cat /run/secrets/authentik_database_password`
\set name `cat /run/secrets/authentik_database_name`

SELECT format('CREATE ROLE %I LOGIN PASSWORD %L', :'role'::name, :'password')
  WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role'::name) \gexec

-- Who is no superuser may give a database only to a role of which it is a member.
SELECT format('GRANT %I TO CURRENT_USER', :'role'::name)
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name'::name)
    AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) \gexec
SELECT format('CREATE DATABASE %I OWNER %I', :'name'::name, :'role'::name)
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name'::name) \gexec
SQL

as_admin "$(secret authentik_database_name)" <<'SQL'
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS "uuid-ossp";
CREATE EXTENSION IF NOT EXISTS citext;
SQL

PGUSER=$(secret authentik_database_user) PGPASSWORD=$(secret authentik_database_password) \
  PGDATABASE=$(secret authentik_database_name) psql -X -q -c '' ||
  { echo "authentik_database_user exists, but not with authentik_database_password" >&2; exit 1; }
