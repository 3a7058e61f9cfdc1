# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

"""Tells whether egret, and not the server, has refused a call, and why."""
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError


def refused(reason, call, **arguments):
    try:
        call(**arguments)
    except ClientError as e:
        answer = e.response["ResponseMetadata"]
        said = answer["HTTPHeaders"].get("egret-decision", "")
        assert answer["HTTPStatusCode"] == 403 and said.startswith(f"policy; reason={reason};"), (answer, said)
    except ResponseParserError as e:  # clients of the query protocol read nothing but XML, and show what came
        assert f'"reason":"{reason}"' in str(e) and '"status":403' in str(e), e
    else:
        raise AssertionError(f"{reason}: {arguments} was not refused")
