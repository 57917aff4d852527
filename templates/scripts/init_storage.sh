id=$(cat /run/secrets/storage_admin_access_key_id)
key=$(cat /run/secrets/storage_admin_secret_access_key)
for value in "$id" "$key"; do
  case $value in
    '' | -* | *[!A-Za-z0-9/+=_.-]*)
      echo "a storage key is empty, begins with a dash, or holds more than A-Z a-z 0-9 / + = _ . -" >&2
      exit 1
      ;;
  esac
done
complaints=$(
  echo "s3.configure -apply -user power_user -access_key $id -secret_key $key -actions Admin" |
    weed shell -master=master:9333 -filer=filer:8888 2>&1 >/dev/null
) || { echo "$complaints" >&2; exit 1; }
if echo "$complaints" | grep -Eq '^(error|unknown command):'; then
  echo "$complaints" >&2
  exit 1
fi
echo "power_user is configured"
