// Package certs has no licence.
package certs
