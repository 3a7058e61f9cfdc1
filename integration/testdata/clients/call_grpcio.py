# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

# Empty messages need no generated code.
import sys

import grpc

target, method, kind = sys.argv[1:4]
channel = grpc.secure_channel(target, grpc.ssl_channel_credentials())
try:
    if kind == "unary":
        call = channel.unary_unary(method, lambda b: b, lambda b: b)
        answers = [call(b"", timeout=20)]
    else:
        call = channel.stream_stream(method, lambda b: b, lambda b: b)
        answers = list(call(iter([b"", b""]), timeout=20))
    print("status: OK", len(answers))
except grpc.RpcError as refusal:
    print("status:", refusal.code().name)
    print(refusal.details())
    for key, value in list(refusal.initial_metadata() or ()) + list(refusal.trailing_metadata() or ()):
        print(key + ":", value)
    sys.exit(1)
