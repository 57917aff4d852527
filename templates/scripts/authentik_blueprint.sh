ak apply_blueprint octopize-avatar-blueprint.yaml || {
  echo "Authentik refuses authentik/octopize-avatar-blueprint.yaml; the reason is above" >&2
  exit 1
}
