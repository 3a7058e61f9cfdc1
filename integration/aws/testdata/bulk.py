# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

"""Uploads a stream in one request, and a file in parts, and downloads both."""
import hashlib
import os
import sys
import tempfile
import time

import boto3
from botocore.config import Config

endpoint, bucket, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
s3 = boto3.client("s3", endpoint_url=endpoint, config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}))
piece = os.urandom(1 << 20)
with tempfile.NamedTemporaryFile() as f:
    want = hashlib.sha256()
    for i in range(size >> 20):
        f.write(piece)
        want.update(piece)
    f.flush()
    f.seek(0)
    times = []
    for key, up in (("one", lambda: s3.put_object(Bucket=bucket, Key="one", Body=f)), ("parts", lambda: s3.upload_file(f.name, bucket, "parts"))):
        begin = time.monotonic()
        up()
        middle = time.monotonic()
        got = hashlib.sha256()
        for chunk in s3.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(1 << 20):
            got.update(chunk)
        assert got.digest() == want.digest(), key
        times.append(f"{key}: up {middle - begin:.1f} s, down {time.monotonic() - middle:.1f} s")
        s3.delete_object(Bucket=bucket, Key=key)
print("; ".join(times))
