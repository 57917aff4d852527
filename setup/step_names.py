"""Name the seven steps: what the state file holds, in their order; `deploy.steps` has a function of each name."""

COLLECT_REQUIRED_CONFIG = "collect_required_config"
COLLECT_OPTIONAL_CONFIG = "collect_optional_config"
GENERATE_ENV_FILE = "generate_env_file"
GENERATE_NGINX_CONFIG = "generate_nginx_config"
GENERATE_SECRETS = "generate_secrets"
PROMPT_USER_SECRETS = "prompt_user_secrets"
FINALIZE = "finalize"

STEP_NAMES = (
    COLLECT_REQUIRED_CONFIG,
    COLLECT_OPTIONAL_CONFIG,
    GENERATE_ENV_FILE,
    GENERATE_NGINX_CONFIG,
    GENERATE_SECRETS,
    PROMPT_USER_SECRETS,
    FINALIZE,
)
ASKING_STEPS = (COLLECT_REQUIRED_CONFIG, COLLECT_OPTIONAL_CONFIG, PROMPT_USER_SECRETS)  # on a terminal


def step_title(name: str) -> str:
    """Return a step's name as the status shows it."""
    return name.replace("_", " ").title()
