# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

"""What applications do with DynamoDB, with keys that no server knows."""
import sys

import boto3

table = "items-" + sys.argv[1]
db = boto3.client("dynamodb")
db.create_table(TableName=table, BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}])
for i in range(20):
    db.put_item(TableName=table, Item={"id": {"S": f"n° {i}"}, "text": {"S": "ü" * 10_000}})
assert db.get_item(TableName=table, Key={"id": {"S": "n° 7"}})["Item"]["text"]["S"] == "ü" * 10_000
assert db.scan(TableName=table)["Count"] == 20
print("all of it worked")
