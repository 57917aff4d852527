"""Declare every secret, once. Facts: the stack's table "Secrets" and its section "Who gets what".

A secret's file is `.secrets/NAME`; it may also be given as NAME in upper case, or by NAME_FILE.
"""

from __future__ import annotations

from setup.config import derived
from setup.config import types as kinds
from setup.config.model import Secret as K

_API = ("api", "init-db", "dask-scheduler", "dask-worker")
_SIGN_UP = ("api", "init-db")
_AUTHENTIK = ("authentik_init_db", "authentik_server", "authentik_worker", "authentik_blueprint")
_ADMIN = ("init-db", "db", "authentik_init_db")

_DATABASE = "the database's volume, whose roles keep their passwords"
_STORAGE = "the object storage's metadata"
_DATA = "stored data"
_OBJECTS = "every stored object"
_SESSIONS = "signed sessions and stored data"
_SSO = "the sign-in provider that Authentik has stored"

# What a new value breaks, for secrets that share it.
_MAIL = "mail fails unless the mail server knows the new one already"
_TELEMETRY = "telemetry fails unless Octopize's storage knows the new one already"
_STORAGE_KEY = "your programs that use the storage key fail once the old key is removed"
_SIGN_IN = "sign-ins in progress must be started again"
_FIRST_START = "nothing by itself: Authentik read the old one at its first start and keeps it"

_ROWS = (
    K("db_name", "Database name (e.g., avatar)", "The API's database.",
      customary="avatar", bound=_DATABASE, masked=False, services=_API),
    K("db_user", "Database user name (e.g., avataruser)", "The API's database role.",
      customary="avataruser", bound=_DATABASE, masked=False, services=_API),
    K("db_password", "Database password", "The password of db_user.", generate="hex", bound=_DATABASE, services=_API, group="database",
      breaks="the API loses its database until the role has the new password", role="db_user"),
    K("db_admin_user", "Database administrator (e.g., postgres)", "The role that creates the others.",
      customary="postgres", kind=kinds.ADMIN_ROLE, bound=_DATABASE, masked=False, theirs=derived.external_database, services=_ADMIN),
    K("db_admin_password", "Database administrator's password", "The password of db_admin_user.",
      generate="hex", bound=_DATABASE, theirs=derived.external_database, services=_ADMIN, group="database",
      breaks="the services that set databases up fail until the role has the new password", role="db_admin_user"),
    K("authentik_database_name", "Authentik database name (e.g., authentik)", "Authentik's database.",
      customary="authentik", kind=kinds.UNPADDED_TEXT, bound=_DATABASE, masked=False, services=_AUTHENTIK),
    K("authentik_database_user", "Authentik database user (e.g., authentikuser)", "Authentik's database role.",
      customary="authentikuser", kind=kinds.UNPADDED_TEXT, bound=_DATABASE, masked=False, services=_AUTHENTIK),
    K("authentik_database_password", "Authentik database password", "Its password.", generate="hex", kind=kinds.UNPADDED_TEXT, bound=_DATABASE, services=_AUTHENTIK, group="database",
      breaks="Authentik loses its database until the role has the new password", role="authentik_database_user"),
    K("authentik_secret_key", "Authentik secret key", "Signs Authentik's sessions.", generate="hex", bound=_SESSIONS, services=_AUTHENTIK[1:], group="sessions",
      breaks="all sessions at Authentik end: people sign in again; links in mails sent earlier fail"),
    K("organization_name", "Organization name", "The organisation this installation belongs to.",
      masked=False, example="Example", services=_API),
    K("admin_emails", "Admin email addresses (comma-separated)", "Who administers Avatar; optional since API 2.82.",
      kind=kinds.EMAILS, when=derived.email_authentication, needed=derived.api_before_2_82, masked=False, asked=True, example="ada@example.com", services=_SIGN_UP),
    K("avatar_first_user_name", "First user's name", "The first user, who administers Avatar.",
      when=derived.by_username, masked=False, example="ada", services=_SIGN_UP),
    K("avatar_first_user_password", "First user's password", "The first user's password.",
      generate="urlsafe", bound="the first user's account", when=derived.by_username, services=_SIGN_UP,
      breaks="nothing by itself: the first user's account keeps its password",
      by_hand="change the first user's password in Avatar"),
    K("authjwt_secret_key", "API token key", "Signs the API's tokens.", generate="hex", bound=_SESSIONS, services=_API, group="sessions",
      breaks="all sessions and tokens of the API end: people sign in again, API clients need new tokens",
      by_hand="API clients and notebooks sign in again"),
    K("clevercloud_sso_salt", "SSO salt", "Salts single sign-on links.", generate="hex", bound=_SESSIONS, services=("api",),
      breaks="sign-in links of Clever Cloud fail until it has the new salt",
      by_hand="give the new salt to Clever Cloud"),
    K("pepper", "Password pepper", "Mixed into stored passwords, up to API 3.8.", generate="hex", bound=_DATA, when=derived.api_before_3_9, services=_SIGN_UP,
      breaks="nobody can sign in: it is mixed into every stored password"),
    K("file_jwt_secret_key", "File token key", "Signs file tokens, before API 2.80.", generate="hex", bound=_SESSIONS, when=derived.api_before_2_80, services=_SIGN_UP, group="sessions",
      breaks="links to files that were handed out earlier fail"),
    K("file_encryption_key", "File encryption key", "Encrypts stored files.", generate="fernet", kind=kinds.FERNET_KEY,
      bound=_DATA, when=derived.api_before_3,
      breaks="every stored file becomes unreadable"),
    K("storage_encryption_key", "Storage encryption key", "Encrypts stored objects; without it they are unreadable.",
      generate="hex", kind=kinds.HEX_KEY, bound=_OBJECTS, services=("filer", "s3"),
      breaks="every stored object becomes unreadable"),
    K("storage_admin_access_key_id", "Storage access key", "Opens the object storage.", generate="hex", kind=kinds.STORAGE_KEY, bound=_STORAGE, services=(*_API, "init-storage"), group="storage",
      breaks=_STORAGE_KEY),
    K("storage_admin_secret_access_key", "Storage secret key", "Its other half.", generate="hex", kind=kinds.STORAGE_KEY, bound=_STORAGE, services=(*_API, "init-storage"), group="storage",
      breaks=_STORAGE_KEY),
    K("seaweedfs_admin_password", "SeaweedFS admin password", "Opens SeaweedFS's admin page.", generate="urlsafe", services=("admin",), group="storage",
      breaks="the SeaweedFS admin page asks for the new one"),
    K("sso_client_id", "SSO client id", "The API's id at Authentik.", generate="hex", bound=_SSO,
      shown=("SSO_CLIENT_ID", "AVATAR_AUTHENTIK_BLUEPRINT_CLIENT_ID"), group="sso",
      breaks=_SIGN_IN),
    K("sso_client_secret", "SSO client secret", "The API's secret at Authentik.", generate="hex", bound=_SSO,
      shown=("SSO_CLIENT_SECRET", "AVATAR_AUTHENTIK_BLUEPRINT_CLIENT_SECRET"), group="sso",
      breaks=_SIGN_IN),
    K("authentik_bootstrap_password", "Authentik bootstrap password", "First password of akadmin.",
      generate="urlsafe", bound="Authentik's first administrator", shown=("AUTHENTIK_BOOTSTRAP_PASSWORD",), kind=kinds.UNLIKE_AN_ADDRESS,
      breaks=_FIRST_START,
      by_hand="sign in to Authentik as akadmin and change the password there"),
    K("authentik_bootstrap_token", "Authentik bootstrap token", "First API token of akadmin.",
      generate="urlsafe", bound="Authentik's first administrator", shown=("AUTHENTIK_BOOTSTRAP_TOKEN",), kind=kinds.UNLIKE_AN_ADDRESS,
      breaks=_FIRST_START,
      by_hand="in Authentik, under Tokens, replace akadmin's bootstrap token"),
    K("authentik_api_token", "Authentik API token", "With it the API reads Authentik's users.",
      generate="urlsafe", bound="the service account in Authentik",
      shown=("AUTHENTIK_API_TOKEN", "AVATAR_AUTHENTIK_BLUEPRINT_API_TOKEN"), group="sso",
      breaks="your programs that use this token fail"),
    K("authentik_webhook_secret", "Authentik webhook secret", "Authentik shows it to the API with every user event.",
      generate="urlsafe",
      shown=("AUTHENTIK_WEBHOOK_SECRET", "AVATAR_AUTHENTIK_BLUEPRINT_WEBHOOK_SECRET"), group="sso",
      breaks="user events are refused until both sides run with the new one"),
    K("aws_mail_account_access_key_id", "AWS mail access key", "Given by Octopize.", when=derived.by_aws_mail, services=_SIGN_UP, group="mail",
      breaks=_MAIL),
    K("aws_mail_account_secret_access_key", "AWS mail secret key", "Given by Octopize.", when=derived.by_aws_mail, services=_SIGN_UP, group="mail",
      breaks=_MAIL),
    K("smtp_password", "SMTP password", "The password of SMTP_USERNAME.", kind=kinds.UNPADDED_TEXT,
      when=derived.by_smtp, needed=derived.smtp_signs_in, shown=("SMTP_PASSWORD",), services=_AUTHENTIK[1:], group="mail",
      breaks=_MAIL),
    K("telemetry_s3_access_key_id", "Telemetry access key", "Given by Octopize.", needed=derived.telemetry_on, services=("api",), group="telemetry",
      breaks=_TELEMETRY),
    K("telemetry_s3_secret_access_key", "Telemetry secret key", "Given by Octopize.", needed=derived.telemetry_on, services=("api",), group="telemetry",
      breaks=_TELEMETRY),
)  # fmt: skip

SECRETS = {row.name: row for row in _ROWS}
GROUPS = tuple(dict.fromkeys(row.group for row in _ROWS if row.group))
# Without the first, data is unreadable; the others cannot be regenerated for existing data.
ENCRYPTING = frozenset(row.name for row in _ROWS if row.bound in (_DATA, _OBJECTS))
IRREPLACEABLE = ENCRYPTING | {row.name for row in _ROWS if row.bound == _DATABASE}
