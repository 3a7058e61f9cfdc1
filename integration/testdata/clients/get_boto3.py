# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

# Without a signature: the credential is egret's to add.
import sys

import boto3
import botocore.config
import botocore.exceptions

s3 = boto3.client(
    "s3",
    region_name="us-east-1",
    endpoint_url="https://s3.amazonaws.com",
    config=botocore.config.Config(signature_version=botocore.UNSIGNED, s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
)
try:
    answer = s3.get_object(Bucket=sys.argv[1], Key="night.json")
    print("status:", answer["ResponseMetadata"]["HTTPStatusCode"])
    print(answer["Body"].read().decode())
except botocore.exceptions.ClientError as refusal:
    about = refusal.response["ResponseMetadata"]
    print("status:", about["HTTPStatusCode"])
    print("decision:", about["HTTPHeaders"].get("egret-decision"))
