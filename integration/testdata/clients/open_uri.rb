# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

require "open-uri"

begin
  answer = URI.parse(ARGV[0]).open(read_timeout: 20)
rescue OpenURI::HTTPError => e
  answer = e.io
end
puts "status: #{answer.status[0]}", "decision: #{answer.meta["egret-decision"]}", answer.read
