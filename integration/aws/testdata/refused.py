# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

"""Tells whether egret, and not the server, has refused a call, and why."""
from botocore.exceptions import ClientError


def refused(reason, call, **arguments):
    try:
        call(**arguments)
    except ClientError as e:
        answer = e.response["ResponseMetadata"]
        said = answer["HTTPHeaders"].get("egret-decision", "")
        assert answer["HTTPStatusCode"] == 403 and said.startswith(f"policy; reason={reason};"), (answer, said)
        told = e.response["Error"]
        assert told["Code"] == f"egret/policy/{reason}" and said.split("id=")[1] in told["Message"], told
    else:
        raise AssertionError(f"{reason}: {arguments} was not refused")
