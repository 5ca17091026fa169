package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"
)

// A token is "pic_" and 58 characters: base32 of 256 random bits and their CRC-32. The checksum lets a scanner for leaked
// secrets tell a token from noise, and refuses a mistyped one without a query; the fixed beginning is what it looks for.
const (
	tokenMark   = "pic_"
	secretBytes = 32
	sumBytes    = 4
	prefixChars = 12 // public: kept in plain to find the key
)

var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

var errToken = errors.New("not a token")

// newToken returns a fresh token with the prefix and hash that are stored of it.
func newToken() (token, prefix string, hash [sha256.Size]byte) {
	b := make([]byte, secretBytes, secretBytes+sumBytes)
	rand.Read(b) //nolint:errcheck // never fails
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	body := encoding.EncodeToString(b)
	token = tokenMark + body
	return token, body[:prefixChars], sha256.Sum256([]byte(token))
}

// parseToken returns the prefix of a well-formed token.
func parseToken(token string) (prefix string, err error) {
	body, ok := strings.CutPrefix(token, tokenMark)
	if !ok || len(body) != encoding.EncodedLen(secretBytes+sumBytes) {
		return "", errToken
	}
	b, err := encoding.DecodeString(body)
	if err != nil || encoding.EncodeToString(b) != body {
		return "", errToken
	}
	if binary.BigEndian.Uint32(b[secretBytes:]) != crc32.ChecksumIEEE(b[:secretBytes]) {
		return "", errToken
	}
	return body[:prefixChars], nil
}
