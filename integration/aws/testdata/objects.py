# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

"""What applications do with S3, with keys that no server knows."""
import hashlib
import io
import os
import sys

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

endpoint, bucket = sys.argv[1:3]
without = sys.argv[3:]  # what this store cannot do
s3 = boto3.client("s3", endpoint_url=endpoint, config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}))

keys = ["plain", "a/b/c.txt", "a b+c&d=e@f:g,h;i", "ü/€/日本", "(1)*'!~-_.", "100%", "%41%2F", "q?x=1#y", "$[]{}|^`\"<>", " lead", "x" * 200]
for key in keys:
    body = key.encode() * 10
    s3.put_object(Bucket=bucket, Key=key, Body=body, Metadata={"spaces": "a   b", "empty": ""}, ContentType="text/plain; charset=utf-8")
    got = s3.get_object(Bucket=bucket, Key=key)
    assert got["Body"].read() == body, key
    assert s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(body), key
listed = set()
for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, MaxKeys=3):
    listed.update(o["Key"] for o in page.get("Contents", []))
assert set(keys) <= listed, set(keys) - listed
assert s3.get_object(Bucket=bucket, Key="plain", Range="bytes=1-3")["Body"].read() == b"lai"
if "copy" not in without:
    s3.copy_object(Bucket=bucket, Key="copy of ü", CopySource={"Bucket": bucket, "Key": "ü/€/日本"})


class Stream(io.RawIOBase):
    """A body that can be read once, of a length that is known: it is sent in chunks."""

    def __init__(self, size):
        self.left, self.size, self.hash = size, size, hashlib.sha256()

    def readable(self):
        return True

    def readinto(self, b):
        n = min(len(b), self.left)
        b[:n] = os.urandom(n)
        self.left -= n
        self.hash.update(b[:n])
        return n

    def __len__(self):
        return self.size


# Without a checksum of its own, with one in a header, with one behind the body.
extra = [{}, {"ChecksumAlgorithm": "SHA256"}, {"ChecksumAlgorithm": "CRC32"}]
for i, more in enumerate(extra):
    data = os.urandom(300_001)
    s3.put_object(Bucket=bucket, Key=f"sum{i}", Body=io.BytesIO(data), **more)
    assert s3.get_object(Bucket=bucket, Key=f"sum{i}")["Body"].read() == data
s3.put_object(Bucket=bucket, Key="empty", Body=b"")

parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, max_concurrency=4)
stream = Stream(23 << 20)
s3.upload_fileobj(io.BufferedReader(stream, 1 << 20), bucket, "multi part", Config=parts)
back = io.BytesIO()
s3.download_fileobj(bucket, "multi part", back, Config=parts)
assert hashlib.sha256(back.getvalue()).digest() == stream.hash.digest()

s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": k} for k in listed]})
url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "sum0"})
assert "X-Amz-Signature" in url or "Signature" in url
print("all of it worked")
