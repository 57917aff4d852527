WEED_S3_SSE_KEK=$(cat /run/secrets/storage_encryption_key)
[ -n "$WEED_S3_SSE_KEK" ] || { echo "storage_encryption_key is empty" >&2; exit 1; }
export WEED_S3_SSE_KEK
exec weed -v=${AVATAR_SEAWEEDFS_LOG_VERBOSITY} -logtostderr filer -defaultStoreDir=/data \
  -ip.bind=0.0.0.0 -master="master:9333"
