//go:build tools

// Package peers pins the grpcurl that the tests call with, and everything it is built from.
package peers

import _ "github.com/fullstorydev/grpcurl/cmd/grpcurl"
