# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

"""An application that may read, write and list, and do nothing else, on one connection."""
import io
import os
import sys

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from refused import refused

endpoint, bucket = sys.argv[1:]
s3 = boto3.client("s3", endpoint_url=endpoint, config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}))
at = {"Bucket": bucket, "Key": "granted/ü a+b"}
not_allowed = "operation_not_allowed"

s3.put_object(**at, Body=b"hello")
assert s3.get_object(**at)["Body"].read() == b"hello"
assert s3.head_object(**at)["ContentLength"] == 5
refused(not_allowed, s3.delete_object, **at)
assert at["Key"] in [o["Key"] for o in s3.list_objects_v2(Bucket=bucket, Prefix="granted/")["Contents"]]
refused(not_allowed, s3.delete_objects, Bucket=bucket, Delete={"Objects": [{"Key": at["Key"]}]})
refused(not_allowed, s3.put_object_acl, **at, ACL="private")
refused(not_allowed, s3.put_object, **at, Body=b"x", ACL="public-read")
refused(not_allowed, s3.put_object_tagging, **at, Tagging={"TagSet": []})
refused(not_allowed, s3.list_buckets)
refused(not_allowed, s3.delete_bucket, Bucket=bucket)
s3.copy_object(Bucket=bucket, Key="granted/copy", CopySource=at)

parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, max_concurrency=3)
body = os.urandom(12 << 20)
s3.upload_fileobj(io.BytesIO(body), bucket, "granted/parts", Config=parts)
back = io.BytesIO()
s3.download_fileobj(bucket, "granted/parts", back, Config=parts)
assert back.getvalue() == body
upload = s3.create_multipart_upload(**at)["UploadId"]
refused(not_allowed, s3.abort_multipart_upload, **at, UploadId=upload)
assert s3.get_object(**at)["Body"].read() == b"hello"
print("all of it worked")
