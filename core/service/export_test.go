package service

import (
	"maps"
	"slices"
)

// Methods are the names of all methods, "service.method".
func Methods() []string { return slices.Sorted(maps.Keys(methods)) }

// Limits, for the test that holds them against the reference.
const (
	MaxListed    = maxListed
	MaxTTL       = maxTTL
	MaxFilePart  = maxFilePart
	MaxFileName  = maxFileName
	FilesQuota   = filesQuota
	MaxPayload   = maxPayload
	MaxPublished = maxPublished
	MaxMessages  = maxMessages
	MaxType      = maxType
)
