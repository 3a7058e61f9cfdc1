<?php
// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

$h = curl_init($argv[1]);
curl_setopt_array($h, [CURLOPT_RETURNTRANSFER => true, CURLOPT_HEADER => true, CURLOPT_TIMEOUT => 20]);
$answer = curl_exec($h);
if ($answer === false) {
    fwrite(STDERR, curl_error($h) . "\n");
    exit(1);
}
echo "status: ", curl_getinfo($h, CURLINFO_RESPONSE_CODE), "\n", $answer, "\n";
