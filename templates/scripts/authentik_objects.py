import os

from authentik.brands.models import Brand
from authentik.core.models import Application, Group, Token, User
from authentik.events.models import NotificationRule
from authentik.providers.oauth2.models import OAuth2Provider
from authentik.stages.identification.models import IdentificationStage

domain = os.environ["AVATAR_AUTHENTIK_BLUEPRINT_DOMAIN"]
launch_url = os.environ["AVATAR_AUTHENTIK_BLUEPRINT_LAUNCH_URL"]
client_id = os.environ["AVATAR_AUTHENTIK_BLUEPRINT_CLIENT_ID"]
wanted = {
    "the provider with the client id of .env": OAuth2Provider.objects.filter(client_id=client_id),
    f"the application avatar-api at {launch_url}": Application.objects.filter(
        slug="avatar-api", meta_launch_url=launch_url
    ),
    f"the brand {domain}": Brand.objects.filter(domain=domain, flow_recovery__slug="avatar-recovery-flow"),
    "the link to password recovery": IdentificationStage.objects.filter(
        name="default-authentication-identification", recovery_flow__slug="avatar-recovery-flow"
    ),
    "the group Octopize - Admins": Group.objects.filter(name="Octopize - Admins"),
    "the group Octopize - Users": Group.objects.filter(name="Octopize - Users"),
    "the user avatar-api": User.objects.filter(username="avatar-api"),
    "the token avatar-api": Token.objects.filter(identifier="avatar-api"),
    "the notification rule avatar-user-events": NotificationRule.objects.filter(name="avatar-user-events"),
}
lacking = [name for name, objects in wanted.items() if not objects.exists()]
if lacking:
    raise SystemExit(
        "Authentik has taken the blueprint but lacks " + ", ".join(lacking)
        + ". See: LOGS_OF_THE_WORKER; then: START_AGAIN"
    )
print("Authentik has all that Avatar needs for signing in")
