// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// GitHubProvider gets installation tokens of a GitHub App: an hour long, and only for these repositories and permissions.
type GitHubProvider struct {
	// AppID is the App's ID or client ID. Required.
	AppID string `json:"appID"`
	// InstallationID is the number in the URL of the installation's settings. Required.
	InstallationID int64 `json:"installationID"`
	// PrivateKey is where the App's private key is, PEM. Required.
	PrivateKey *SecretSource `json:"privateKey"`
	// Repositories are the only ones that a token is good for, by name without the owner, at most 500 together with repositoryIDs.
	Repositories []string `json:"repositories,omitempty"`
	// RepositoryIDs are further ones, by number.
	RepositoryIDs []int64 `json:"repositoryIDs,omitempty"`
	// AllRepositories asks for all that the installation has. Required where no repository is named, as for permissions of an organization.
	AllRepositories bool `json:"allRepositories,omitempty"`
	// Permissions are the only ones of a token, each read, write or admin: {contents: read}. Required.
	Permissions map[string]string `json:"permissions"`
	// BaseURL is that of the API; on GitHub Enterprise Server https://HOST/api/v3. Default: https://api.github.com.
	BaseURL string `json:"baseURL,omitempty"`
	// Endpoint is how the host of the base URL is reached.
	Endpoint *Endpoint `json:"endpoint,omitempty"`
}

const maxRepositories = 500

func (p *GitHubProvider) check(f *faults, path string) {
	f.line(path+".appID", p.AppID)
	if p.InstallationID <= 0 {
		f.add(Fault{path + ".installationID", "", "must be a positive number", "it ends the URL of the installation's settings page"})
	}
	if p.PrivateKey == nil {
		f.bad(path+".privateKey", "", "is required")
	} else {
		f.source(path+".privateKey", p.PrivateKey)
	}
	f.repositories(path, p)
	f.permissions(path+".permissions", p.Permissions)
	if p.BaseURL != "" {
		f.wrong(path+".baseURL", p.BaseURL, checkTokenURL(p.BaseURL))
	}
	f.endpoint(path+".endpoint", p.Endpoint)
}

func (f *faults) repositories(path string, p *GitHubProvider) {
	n := len(p.Repositories) + len(p.RepositoryIDs)
	switch {
	case n == 0 && !p.AllRepositories:
		f.add(Fault{path + ".repositories", "", "is required", "name them, or set allRepositories: true"})
	case n > 0:
		f.absent(path+".allRepositories", p.AllRepositories, "beside named repositories")
	}
	if n > maxRepositories {
		f.bad(path+".repositories", strconv.Itoa(n), "must be at most 500, GitHub's limit")
	}
	f.distinct(path+".repositories", p.Repositories)
	for i, s := range p.Repositories {
		if strings.Contains(s, "/") {
			f.add(Fault{at(path+".repositories", i), s, "must be a name without its owner, which the installation knows", "write " + s[strings.LastIndexByte(s, '/')+1:]})
		} else if strings.Trim(s, queryName) != "" || s == "" {
			f.bad(at(path+".repositories", i), s, "must be letters, digits and -._")
		}
	}
	for i, id := range p.RepositoryIDs {
		if id <= 0 {
			f.bad(at(path+".repositoryIDs", i), strconv.FormatInt(id, 10), "must be a positive number")
		}
	}
}

func (f *faults) permissions(path string, members map[string]string) {
	if len(members) == 0 {
		f.add(Fault{path, "", "is required: without it a token has all that the App has", "as in {contents: read}"})
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != "" {
			f.bad(path, "", "must name permissions as GitHub's API does, in lower case with _")
			continue
		}
		f.oneOf(path+"."+name, members[name], "read", "write", "admin")
	}
}

func (p *GitHubProvider) traits() traits { return traits{preview: true} }
