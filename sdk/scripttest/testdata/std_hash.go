package main

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	abc, key, data := []byte("abc"), []byte("Jefe"), []byte("what do ya want for nothing?")
	sum256, sum512, sum1, sum5 := sha256.Sum256(abc), sha512.Sum512(abc), sha1.Sum(abc), md5.Sum(abc)
	return []any{
		hex.EncodeToString(sum256[:]), hex.EncodeToString(sum512[:]), hex.EncodeToString(sum1[:]), hex.EncodeToString(sum5[:]),
		sign(hmac.New(sha256.New, key), data), sign(hmac.New(sha512.New, key), data), sign(hmac.New(sha1.New, key), data),
		hmac.Equal(abc, []byte("abc")), hmac.Equal(abc, []byte("abd")),
	}, nil
}

func sign(h hash.Hash, data []byte) string {
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}
