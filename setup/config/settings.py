"""Declare every setting, once: the questions, variables, file keys, `.env` and reference derive from here.

Facts and defaults: the stack's tables ".env" and "TLS and ports". Versions, image names and presets
change with every Avatar release and are in `defaults.yaml`; their rows here have no default.
"""

from __future__ import annotations

from setup.config import derived
from setup.config import types as kinds
from setup.config.model import Setting as S
from setup.config.model import always
from setup.volume.layout import CERTIFICATE, CERTIFICATE_KEY, TLS_FOLDER

REQUIRED = "Required Settings"
INSTALLATION = "Installation Settings"
ADDRESS = "TLS and Ports"
MAIL = "E-mail"
SIGN_IN = "Sign-in"
TELEMETRY = "Telemetry"
LOGGING = "Logging"
STORAGE = "Data and Storage"
SIZE = "Size"
KUBERNETES = "Kubernetes"
IMAGES = "Images"
DERIVED = "Derived Addresses"

PRESETS = ("default", "dev-mode", "airgapped")

_TELEMETRY_ENDPOINT = "https://s3.fr-par.scw.cloud"

_ROWS = (
    S("PUBLIC_URL", REQUIRED, "Public URL (domain name, e.g., avatar.example.com)",
      "The address people type to reach Avatar: host, host:port, or an http(s) URL without a path.",
      kinds.PUBLIC_URL, example="avatar.example.com", in_env=False, asked=True, express=always),
    S("ENV_NAME", REQUIRED, "Environment name (e.g., mycompany-prod)",
      "A short name of this installation; it shows in logs and error reports.",
      kinds.NAME, example="mycompany-prod", asked=True, express=always),

    S("PRESET", INSTALLATION, "Preset",
      "Sets logging, error reports and telemetry at once. default: errors go to Octopize's Sentry, statistics of use to "
      "their storage, with a bucket and keys that they give you. dev-mode: readable logs, and nothing is sent. airgapped: "
      "nothing is sent or looked up outside. None: errors go to Sentry, no statistics.",
      kinds.choice(*PRESETS), "", empty=True, in_env=False, asked=True, express=always,
      notice="A preset says what leaves this host. default: error reports and statistics of use go to Octopize; dev-mode "
      "and airgapped: nothing does. Without one, error reports do."),
    S("TARGET", INSTALLATION, "What runs the containers",
      "compose: Docker Compose, on one host; swarm: Docker Swarm, on several; kubernetes: a cluster that you have. Each gets "
      "files of its own from the same answers and secrets. Data does not move from one to another.",
      kinds.choice(*derived.TARGETS), derived.COMPOSE_ENGINE, in_env=False),
    S("SWARM_ENCRYPTED", INSTALLATION, "Encryption between the nodes",
      "Whether Swarm encrypts what containers on different nodes send each other (IPsec). The nodes must let IP protocol 50 "
      "(ESP) through; existing networks stay as they are until the stack is removed and deployed again.",
      kinds.BOOLEAN, "false", when=derived.on_swarm, in_env=False),
    S("SWARM_PORT_MODE", INSTALLATION, "How Swarm publishes nginx",
      "host: at the node that runs nginx, which sees each client's address; ingress: at every node, and the logs and the "
      "API then see an address of Swarm's instead.",
      kinds.choice("host", "ingress"), "host", when=derived.on_swarm, in_env=False),
    S("AUTH_TYPE", INSTALLATION, "Sign-in by e-mail address or by user name",
      "How people sign in: with their e-mail address, or, with an API release before 3, with a user name.",
      kinds.choice("email", "username"), derived.auth_type, when=derived.api_before_3, in_env=False,
      asked=True),
    S("USE_EMAIL_AUTHENTICATION", INSTALLATION, "Sign-in by e-mail address",
      "The API's own spelling of AUTH_TYPE.", kinds.BOOLEAN, derived.email_authentication),
    S("DB_HOST", INSTALLATION, "Database host",
      "db for the PostgreSQL of this stack; any other name leaves it out and uses that server.",
      kinds.SERVER, derived.BUNDLED_DATABASE, asked=True),
    S("DB_PORT", INSTALLATION, "Database port",
      "The port of an external database, for Authentik. The API is given no port: none of its releases is known to read one.",
      kinds.PORT, "5432", when=derived.external_database, asked=True),
    S("DB_SSLMODE", INSTALLATION, "TLS to the database",
      "How Authentik connects to an external database: require encrypts; verify-ca and verify-full also check its certificate "
      "against TLS_CA_PATH. The API is not known to read such a setting.",
      kinds.choice("disable", "require", "verify-ca", "verify-full"), "disable", when=derived.external_database, asked=True),
    S("DB_VOLUME", INSTALLATION, "Database volume", "The Docker volume of the database; on Kubernetes a folder in its volume. Another one is empty.",
      kinds.NAME, "avatar_postgres_data"),
    S("SEAWEEDFS_VOLUME", INSTALLATION, "Storage volume", "The Docker volume of the object storage.",
      kinds.NAME, "avatar_seaweedfs_data"),
    S("SEAWEEDFS_METADATA_VOLUME", INSTALLATION, "Storage metadata volume", "The Docker volume of the object storage's master.",
      kinds.NAME, "avatar_seaweedfs_metadata", in_env=False),
    S("SEAWEEDFS_BLOCKS_VOLUME", INSTALLATION, "Storage blocks volume", "The Docker volume of the stored blocks.",
      kinds.NAME, "avatar_seaweedfs_blocks", in_env=False),
    S("AUTHENTIK_VOLUME", INSTALLATION, "Uploads volume", "The Docker volume of pictures uploaded to Authentik.",
      kinds.NAME, "avatar_authentik_data", when=derived.keeps_uploads, in_env=False),

    S("TLS_MODE", ADDRESS, "TLS mode",
      "provided: nginx serves https with your certificate; self-signed: with one issued here, whose CA your clients must "
      "trust; behind-proxy: TLS terminates at another proxy; off: plain http, the default for an http:// URL.",
      kinds.choice("provided", "self-signed", "behind-proxy", "off"), derived.tls_mode, in_env=False, asked=True, express=always),
    S("NGINX_TLS_ENABLED", ADDRESS, "TLS in nginx", "Older spelling of TLS_MODE: true is provided, false is off.",
      kinds.BOOLEAN, derived.tls_is_ours, in_env=False),
    S("NGINX_SSL_CERTIFICATE_PATH", ADDRESS, "Certificate chain (path on the host)",
      "The server's certificate followed by its chain, PEM.",
      kinds.HOST_PATH, f"./{CERTIFICATE}", when=derived.certificate_is_given, in_env=False, asked=True),
    S("NGINX_SSL_CERTIFICATE_KEY_PATH", ADDRESS, "Certificate key (path on the host)",
      "The certificate's key, PEM, not encrypted.",
      kinds.HOST_PATH, f"./{CERTIFICATE_KEY}", when=derived.certificate_is_given, in_env=False, asked=True),
    S("TLS_CA_PATH", ADDRESS, "Private CA certificate",
      "A private CA that the API services trust beside the public ones; read when this tool runs, "
      "so put it into the deployment's directory or mount it.",
      kinds.HOST_PATH, "", example=f"./{TLS_FOLDER}/ca.crt", empty=True, in_env=False),
    S("TLS_EXTRA_NAMES", ADDRESS, "Further host names", "More names under which nginx answers; a certificate that is made here covers them.",
      kinds.HOSTS, "", example="avatar.internal", empty=True, in_env=False),
    S("NGINX_HTTPS_PORT", ADDRESS, "https port", "The published https port: the port of PUBLIC_URL, or 443.",
      kinds.PORT, derived.https_port, when=derived.tls_is_ours, in_env=False),
    S("NGINX_HTTP_PORT", ADDRESS, "http port", "The published http port, unless TLS terminates at nginx.",
      kinds.PORT, derived.http_port, when=derived.serves_plain_http, in_env=False, asked=True, express=always),
    S("NGINX_HTTP_REDIRECT_PORT", ADDRESS, "Redirect port", "A port, usually 80, that redirects to https; empty: none.",
      kinds.PORT, "", example="80", when=derived.tls_is_ours, empty=True, in_env=False),
    S("NGINX_BIND_ADDRESS", ADDRESS, "Address of the host", "The address of this host at which nginx can be reached, such as 127.0.0.1; empty: all of them.",
      kinds.ADDRESS, "", example="127.0.0.1", empty=True, in_env=False),
    S("NGINX_PUBLISHED_PORT", ADDRESS, "Published port",
      "The port of this host, if something else passes the public one on to it; empty: the port on which nginx listens.",
      kinds.PORT, "", example="8443", empty=True, in_env=False),
    S("NGINX_IPV6", ADDRESS, "IPv6 in nginx", "Whether nginx listens on IPv6 inside its container; auto: no, Docker maps it.",
      kinds.choice("auto", "on", "off"), "auto", in_env=False),
    S("TRUSTED_PROXIES", ADDRESS, "Trusted proxies", "Addresses or networks of the proxy in front, whose X-Forwarded-For header is trusted.",
      kinds.NETWORKS, "", example="10.0.0.0/8", when=derived.behind_proxy, empty=True, in_env=False),

    S("MAIL_PROVIDER", MAIL, "Mail provider", "smtp: your mail server; aws: Octopize's account, for API releases before 3 only.",
      kinds.choice("smtp", "aws"), "smtp"),
    S("USE_AWS_SMTP_PRESET", MAIL, "Amazon's mail server",
      "true fills in the host and port of Amazon's server, for a user name and password that Octopize gave you.",
      kinds.BOOLEAN, "false", in_env=False),
    S("SMTP_HOST", MAIL, "SMTP host", "The mail server.",
      kinds.SERVER, derived.smtp_host, example="mail.example.com", asked=True, express=always),
    S("SMTP_PORT", MAIL, "SMTP port", "465 speaks TLS from the start, 587 and 25 switch to it (STARTTLS).",
      kinds.PORT, "587", asked=True),
    S("SMTP_USE_TLS", MAIL, "TLS from the start", "Implicit TLS; follows the port.", kinds.BOOLEAN, derived.smtp_use_tls),
    S("SMTP_START_TLS", MAIL, "STARTTLS", "Switch to TLS after connecting; follows the port.",
      kinds.BOOLEAN, derived.smtp_start_tls),
    S("SMTP_VERIFY", MAIL, "Verify the mail server's certificate",
      "Whether the API verifies the mail server's certificate. Authentik always does.",
      kinds.BOOLEAN, "true"),
    S("SMTP_SENDER_EMAIL", MAIL, "Sender address", "The From address of every mail.",
      kinds.EMAIL, derived.smtp_sender, asked=True),
    S("SMTP_USERNAME", MAIL, "SMTP user name", "Empty: the server requires no sign-in.",
      kinds.UNPADDED_TEXT, derived.smtp_user, example="avatar", empty=True, asked=True, express=always),

    S("SSO_PROVIDER_APP_NAME", SIGN_IN, "SSO application", "The application's slug in Authentik.", kinds.NAME, derived.BLUEPRINT_APPLICATION),
    S("AVATAR_AUTHENTIK_BLUEPRINT_SELF_SERVICE_LICENSE", SIGN_IN, "Self-service licence",
      "The licence of people who sign up by themselves; the Octopize groups have professional. demo and full are those of "
      "API releases before 3.",
      kinds.choice(*derived.LICENSES, *derived.OLDER_LICENSES), derived.self_service_license),
    S("AUTHENTIK_BOOTSTRAP_EMAIL", SIGN_IN, "Authentik administrator's address",
      "The first of the admin e-mail addresses, else admin@ and the public host.",
      kinds.EMAIL, derived.bootstrap_email),

    S("TELEMETRY_ENABLED", TELEMETRY, "Send usage telemetry to Octopize",
      "Whether the API writes usage statistics to a bucket of Octopize's; off until you say yes.",
      kinds.BOOLEAN, derived.telemetry, in_env=False, asked=True,
      notice="With telemetry, the API sends statistics of its use to Octopize, into a bucket of theirs at "
      f"{_TELEMETRY_ENDPOINT}. Without, it sends none."),
    S("TELEMETRY_S3_ENDPOINT_URL", TELEMETRY, "Telemetry endpoint", "The object storage that takes telemetry.",
      kinds.HTTP_URL, _TELEMETRY_ENDPOINT, when=derived.telemetry_on),
    S("TELEMETRY_S3_REGION", TELEMETRY, "Telemetry region", "The region of that storage.",
      kinds.NAME, "fr-par", when=derived.telemetry_on),
    S("TELEMETRY_S3_BUCKET_NAME", TELEMETRY, "Telemetry bucket",
      "Given by Octopize; without one, set TELEMETRY_ENABLED=false.",
      kinds.NAME, example="mycompany-telemetry", when=derived.telemetry_on, asked=True, express=always,
      notice="Octopize gives you the name of this bucket. Without one, go back (<) and type - as the preset, or false to "
      "telemetry."),

    S("USE_CONSOLE_LOGGING", LOGGING, "Readable console logs", "true: readable lines; false: JSON.", kinds.BOOLEAN, asked=True),
    S("IS_SENTRY_ENABLED", LOGGING, "Report errors to Sentry", "Whether errors are reported to Octopize's Sentry.",
      kinds.BOOLEAN, asked=True),
    S("LOG_LEVEL", LOGGING, "Log level", "How much the API logs.", kinds.LOG_LEVEL, "INFO", asked=True),
    S("COMPATIBILITY_MAPPING_URL", LOGGING, "Compatibility mapping",
      "Where the API looks up which client versions fit; the word disabled turns it off.",
      kinds.SWITCHABLE_URL, "https://license.octopize.io/compatibility/compatibility_mapping.json"),

    S("SHARED_STORAGE_PATH", STORAGE, "Shared storage path", "Where results are stored; the API fills in the braces.",
      kinds.STORAGE_PATH, "s3://{user_id}/{expire_days}d"),
    S("DATASET_EXPIRATION_DAYS", STORAGE, "Dataset expiry", "When datasets are deleted, as in 30d, 2w or 12h.",
      kinds.DURATION, "30d", asked=True),
    S("AVATAR_SEAWEEDFS_LOG_VERBOSITY", STORAGE, "SeaweedFS log verbosity", "0 (quiet) to 4.",
      kinds.whole_number("verbosity", 0, 4), "0"),

    S("REPLICAS_API", SIZE, "Containers of the API", "How many containers answer for the API.", kinds.REPLICAS, "1", in_env=False),
    S("REPLICAS_WEB", SIZE, "Containers of the web client", "How many containers serve the web client.",
      kinds.REPLICAS, "1", in_env=False),
    S("REPLICAS_DASK_WORKER", SIZE, "Dask workers", "How many containers compute; each has all processors, unless it is limited.",
      kinds.REPLICAS, "1", in_env=False),
    S("MEMORY_API", SIZE, "Memory of the API", "The most memory that a container of the API may have; empty: no limit.",
      kinds.MEMORY, "", example="4g", empty=True, in_env=False),
    S("MEMORY_WEB", SIZE, "Memory of the web client", "The most memory that a container of the web client may have; empty: no limit.",
      kinds.MEMORY, "", example="1g", empty=True, in_env=False),
    S("MEMORY_DASK_WORKER", SIZE, "Memory of a Dask worker",
      "The most memory that a Dask worker may have; it then spills to disk instead of filling the host. Empty: no limit.",
      kinds.MEMORY, "", example="16g", empty=True, in_env=False),
    S("CPUS_API", SIZE, "Processors of the API", "How many processors a container of the API may use; empty: all.",
      kinds.CPUS, "", example="2", empty=True, in_env=False),
    S("CPUS_WEB", SIZE, "Processors of the web client", "How many processors a container of the web client may use; empty: all.",
      kinds.CPUS, "", example="0.5", empty=True, in_env=False),
    S("CPUS_DASK_WORKER", SIZE, "Processors of a Dask worker", "How many processors a Dask worker may use; empty: all.",
      kinds.CPUS, "", example="4", empty=True, in_env=False),

    S("KUBERNETES_NAMESPACE", KUBERNETES, "Namespace", "The namespace of all objects; it must exist.",
      kinds.LABEL, "avatar", when=derived.on_kubernetes, in_env=False),
    S("KUBERNETES_EXPOSURE", KUBERNETES, "Exposure",
      "How nginx is reached from outside: LoadBalancer and NodePort are types of its Service and show it the client's "
      "address; Ingress is for a controller, at which TLS terminates.",
      kinds.choice("LoadBalancer", "NodePort", "Ingress"), "LoadBalancer", when=derived.on_kubernetes, in_env=False),
    S("KUBERNETES_INGRESS_CLASS", KUBERNETES, "Ingress class", "The class of the Ingress; empty: the cluster's default.",
      kinds.OBJECT, "", example="nginx", when=derived.has_ingress, empty=True, in_env=False),
    S("KUBERNETES_INGRESS_TLS_SECRET", KUBERNETES, "TLS secret of the Ingress",
      "The Secret with the certificate of the public name, of type kubernetes.io/tls; empty: the controller's own.",
      kinds.OBJECT, "", example="avatar-tls", when=derived.has_ingress, empty=True, in_env=False),
    S("KUBERNETES_STORAGE_CLASS", KUBERNETES, "Storage class",
      "The class of all volumes when they are created; empty: the cluster's default.",
      kinds.OBJECT, "", example="fast", when=derived.on_kubernetes, empty=True, in_env=False),
    S("KUBERNETES_DATABASE_SIZE", KUBERNETES, "Size of the database", "The size of the database's volume when it is created.",
      kinds.QUANTITY, "20Gi", when=derived.on_kubernetes, in_env=False),
    S("KUBERNETES_BLOCKS_SIZE", KUBERNETES, "Size of the stored blocks",
      "The size of the volume that holds the stored objects, when it is created.",
      kinds.QUANTITY, "100Gi", when=derived.on_kubernetes, in_env=False),
    S("KUBERNETES_METADATA_SIZE", KUBERNETES, "Size of the storage's metadata",
      "The size of each of the two volumes of the object storage's metadata, when it is created.",
      kinds.QUANTITY, "10Gi", when=derived.on_kubernetes, in_env=False),
    S("KUBERNETES_UPLOADS_SIZE", KUBERNETES, "Size of the uploads",
      "The size of the volume of pictures uploaded to Authentik, when it is created.",
      kinds.QUANTITY, "1Gi", when=derived.on_kubernetes, in_env=False),
    S("KUBERNETES_IMAGE_PULL_SECRET", KUBERNETES, "Image pull secret",
      "The Secret of the namespace with the account of the registry; empty: images are pulled without signing in.",
      kinds.OBJECT, "registry", when=derived.on_kubernetes, empty=True, in_env=False),
    S("KUBERNETES_CLUSTER_DOMAIN", KUBERNETES, "Cluster domain", "The domain of the cluster's own names.",
      kinds.OBJECT, "cluster.local", when=derived.on_kubernetes, in_env=False),
    S("KUBERNETES_DNS_ADDRESS", KUBERNETES, "Cluster DNS",
      "The address of the cluster's DNS, which nginx asks for the other services.",
      kinds.HOST, derived.cluster_dns, when=derived.on_kubernetes, in_env=False),
    S("KUBERNETES_NGINX_ADDRESS", KUBERNETES, "Address of nginx in the cluster",
      "A free address of the cluster's service range: the pods then reach the public name there, rather than where DNS "
      "leads; empty: any address.",
      kinds.ADDRESS, "", example="10.96.0.80", when=derived.on_kubernetes, empty=True, in_env=False),

    S("AVATAR_API_VERSION", IMAGES, "API version", "Tag of the API's image.", kinds.VERSION, asked=True),
    S("AVATAR_WEB_VERSION", IMAGES, "Web client version", "Tag of the web client's image.", kinds.VERSION, asked=True),
    S("AVATAR_SEAWEEDFS_VERSION", IMAGES, "SeaweedFS version", "Tag of SeaweedFS's image.", kinds.VERSION, asked=True),
    S("AVATAR_AUTHENTIK_VERSION", IMAGES, "Authentik version", "Tag of Authentik's image.", kinds.VERSION, asked=True),
    S("REGISTRY_MIRROR", IMAGES, "Registry with copies of all images (Enter for none)",
      "A registry of your own: every image is then MIRROR/ and its usual name without the registry, unless it is named "
      "itself; --images lists the commands that copy them. Empty: images come from their makers' registries, or from "
      "docker load.",
      kinds.REPOSITORY, "", example="registry.example.com/avatar", empty=True, in_env=False, asked=True,
      express=derived.is_airgapped),
    S("AVATAR_REGISTRY", IMAGES, "Avatar registry", "Registry and path of the Avatar images.", kinds.REPOSITORY),
    S("AVATAR_SEAWEEDFS_REGISTRY", IMAGES, "SeaweedFS registry", "Registry and path of SeaweedFS's image.", kinds.REPOSITORY),
    S("AVATAR_AUTHENTIK_REPOSITORY", IMAGES, "Authentik registry", "Registry and path of Authentik's image.", kinds.REPOSITORY),
    S("POSTGRES_IMAGE", IMAGES, "PostgreSQL image", "The whole image name, with its tag.", kinds.IMAGE),
    S("NGINX_IMAGE", IMAGES, "nginx image", "The whole image name, with its tag.", kinds.IMAGE),
    S("PREFLIGHT_IMAGE", IMAGES, "Preflight image",
      "The name of this tool's own image: the stack then starts only when its --check passes; empty: without such a service.",
      kinds.IMAGE, "", example="avatar-setup", when=derived.on_compose, empty=True, in_env=False),

    S("AVATAR_DOMAIN", DERIVED, "Public host[:port]", "The public address without its scheme.",
      kinds.NETLOC, derived.public_netloc),
    S("AVATAR_WEB_CLIENT_URL", DERIVED, "Web client", "Where the web client is served.", kinds.HTTP_URL, derived.web_client_url),
    S("AVATAR_API_URL", DERIVED, "API", "Where the API is served.", kinds.HTTP_URL, derived.api_url),
    S("AVATAR_STORAGE_ENDPOINT_PUBLIC_URL", DERIVED, "Storage, from outside", "Where storage is served.",
      kinds.HTTP_URL, derived.storage_url),
    S("AVATAR_STORAGE_ENDPOINT_INTERNAL_URL", DERIVED, "Storage, from inside", "Where the services reach storage.",
      kinds.HTTP_URL, "http://s3:8333"),
    S("SSO_PROVIDER_URL", DERIVED, "Authentik", "Where Authentik is served.", kinds.HTTP_URL, derived.sso_url),
    S("AVATAR_AUTHENTIK_BLUEPRINT_DOMAIN", DERIVED, "Authentik's brand", "The host[:port] of Authentik's brand.",
      kinds.NETLOC, derived.public_netloc),
    S("AVATAR_AUTHENTIK_BLUEPRINT_API_REDIRECT_URI", DERIVED, "Redirect URI", "Where Authentik sends people back to.",
      kinds.HTTP_URL, derived.redirect_uri),
    S("AVATAR_AUTHENTIK_BLUEPRINT_API_WEBHOOK_URL", DERIVED, "User events", "Where Authentik reports changed users.",
      kinds.HTTP_URL, "http://api:8000/internal/authentik/user-events"),
)  # fmt: skip

SETTINGS = {row.key: row for row in _ROWS}
GROUPS = tuple(dict.fromkeys(row.group for row in _ROWS))
REQUIRED_KEYS = frozenset(row.key for row in _ROWS if row.group == REQUIRED)
