// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

class Get {
  public static void main(String[] args) throws Exception {
    var version = HttpClient.Version.valueOf(args[1]);
    var request = HttpRequest.newBuilder(URI.create(args[0])).build();
    var answer = HttpClient.newBuilder().version(version).build().send(request, BodyHandlers.ofString());
    System.out.println("status: " + answer.statusCode());
    System.out.println("decision: " + answer.headers().firstValue("Egret-Decision").orElse(null));
    System.out.println(answer.body());
  }
}
