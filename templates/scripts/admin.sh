WEED_ADMIN_PASSWORD=$(cat /run/secrets/seaweedfs_admin_password)
[ -n "$WEED_ADMIN_PASSWORD" ] || { echo "seaweedfs_admin_password is empty" >&2; exit 1; }
export WEED_ADMIN_PASSWORD
exec weed -v=${AVATAR_SEAWEEDFS_LOG_VERBOSITY} -logtostderr admin -master=master:9333 -port=23646 \
  -adminUser=admin -dataDir=/data
