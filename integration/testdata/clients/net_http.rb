# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

require "net/http"

answer = Net::HTTP.get_response(URI(ARGV[0]))
puts "status: #{answer.code}", "decision: #{answer["Egret-Decision"]}", answer.body
