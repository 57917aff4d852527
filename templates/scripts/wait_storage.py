# Waits until the object storage lists its buckets for the storage key.
import functools
import hashlib
import hmac
import pathlib
import time
import urllib.request

HOST = "s3:8333"
NAMES = "host;x-amz-content-sha256;x-amz-date"
NOTHING = hashlib.sha256(b"").hexdigest()


def sign(key, text):
    return hmac.digest(key, text.encode(), "sha256")


def ask(identifier, secret):
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    parts = (now[:8], "us-east-1", "s3", "aws4_request")
    asked = f"GET\n/\n\nhost:{HOST}\nx-amz-content-sha256:{NOTHING}\nx-amz-date:{now}\n\n{NAMES}\n{NOTHING}"
    signed = f"AWS4-HMAC-SHA256\n{now}\n{'/'.join(parts)}\n{hashlib.sha256(asked.encode()).hexdigest()}"
    signature = sign(functools.reduce(sign, parts, f"AWS4{secret}".encode()), signed).hex()
    headers = {
        "X-Amz-Content-Sha256": NOTHING,
        "X-Amz-Date": now,
        "Authorization": f"AWS4-HMAC-SHA256 Credential={identifier}/{'/'.join(parts)}, SignedHeaders={NAMES}, "
        f"Signature={signature}",
    }
    urllib.request.urlopen(urllib.request.Request(f"http://{HOST}/", headers=headers), timeout=10).close()


def read(name):
    return pathlib.Path("/run/secrets", name).read_text().strip()


while True:
    try:
        ask(read("storage_admin_access_key_id"), read("storage_admin_secret_access_key"))
        break
    except OSError as error:
        print(f"waiting for {HOST}: {error}", flush=True)
        time.sleep(3)
