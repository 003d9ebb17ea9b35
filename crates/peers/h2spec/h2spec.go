//go:build tools

// Package peers pins the h2spec that the tests check HTTP/2 with, and everything it is built from.
package peers

import _ "github.com/summerwind/h2spec/cmd/h2spec"
