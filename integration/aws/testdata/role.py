# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

"""What an administrator sets up once: trust in the SPIFFE issuer, and two roles."""
import json
import sys

import boto3

endpoint, issuer, subject, bucket = sys.argv[1:]
iam = boto3.client("iam", endpoint_url=endpoint)
provider = iam.create_open_id_connect_provider(Url=issuer, ClientIDList=["sts.amazonaws.com"], ThumbprintList=["0" * 40])["OpenIDConnectProviderArn"]
name = issuer.removeprefix("https://")
for role, sub in (("reports", subject), ("others", subject + "/other")):
    trust = {"Effect": "Allow", "Principal": {"Federated": provider}, "Action": "sts:AssumeRoleWithWebIdentity",
             "Condition": {"StringEquals": {f"{name}:sub": sub, f"{name}:aud": "sts.amazonaws.com"}}}
    iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}))
    may = {"Effect": "Allow", "Action": "s3:*", "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]}
    iam.put_role_policy(RoleName=role, PolicyName="objects", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [may]}))
