# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

"""An application that may put and get items of DynamoDB, on one connection."""
import boto3

from refused import refused

db = boto3.client("dynamodb")
db.put_item(TableName="ready", Item={"id": {"S": "ü"}})
refused("operation_not_allowed", db.delete_item, TableName="ready", Key={"id": {"S": "ü"}})
assert db.get_item(TableName="ready", Key={"id": {"S": "ü"}})["Item"]["id"]["S"] == "ü"
refused("operation_not_allowed", db.scan, TableName="ready")
refused("operation_not_allowed", db.delete_table, TableName="ready")
assert "Item" in db.get_item(TableName="ready", Key={"id": {"S": "ü"}})
print("all of it worked")
