# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

"""An application that asks who it is, and would like keys, on one connection."""
import boto3

from refused import refused

sts = boto3.client("sts", endpoint_url="https://sts.us-east-1.amazonaws.com")  # old ones ask a global host
assert sts.get_caller_identity()["Arn"].endswith(":user/egret")
role = {"RoleArn": "arn:aws:iam::123456789012:role/any", "RoleSessionName": "session"}
refused("minting_not_allowed", sts.assume_role, **role)
assert sts.get_caller_identity()["Arn"].endswith(":user/egret")
refused("minting_not_allowed", sts.get_session_token)
refused("minting_not_allowed", sts.get_federation_token, Name="somebody")
assert sts.get_caller_identity()["Arn"].endswith(":user/egret")
print("all of it worked")
