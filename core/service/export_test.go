package service

// Limits, for the test that holds them against the reference.
const (
	MaxListed    = maxListed
	MaxTTL       = maxTTL
	MaxFilePart  = maxFilePart
	MaxFileName  = maxFileName
	FilesQuota   = filesQuota
	MaxPayload   = maxPayload
	MaxType      = maxType
	MaxPublished = maxPublished
	MaxMessages  = maxMessages
)
