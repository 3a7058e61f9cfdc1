# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

"""Makes a user and a table in moto, prints the user's keys, and turns moto's checks on."""
import json
import sys
import urllib.request
import ssl
import warnings

warnings.simplefilter("ignore")
import boto3  # noqa: E402

endpoint = sys.argv[1]
iam = boto3.client("iam", endpoint_url=endpoint, verify=False)
iam.create_user(UserName="egret")
may = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
iam.put_user_policy(UserName="egret", PolicyName="all", PolicyDocument=json.dumps(may))
key = iam.create_access_key(UserName="egret")["AccessKey"]
db = boto3.client("dynamodb", endpoint_url=endpoint, verify=False)
db.create_table(TableName="ready", BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}])
urllib.request.urlopen(urllib.request.Request(endpoint + "/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"}), context=ssl._create_unverified_context())
print(key["AccessKeyId"], key["SecretAccessKey"])
