package main

import (
	"encoding/base64"
	"encoding/hex"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	var texts []string
	for _, text := range []string{"", "f", "fo", "foo", "foob", "fooba", "foobar"} {
		texts = append(texts, base64.StdEncoding.EncodeToString([]byte(text)))
	}
	some := []byte{251, 255}
	decoded, err := base64.StdEncoding.DecodeString("+/8=")
	if err != nil {
		return nil, err
	}
	fromURL, err := base64.RawURLEncoding.DecodeString("-_8")
	if err != nil {
		return nil, err
	}
	foobar, err := base64.StdEncoding.DecodeString("Zm9vYmFy")
	if err != nil {
		return nil, err
	}
	coffee, err := hex.DecodeString("C0ffEE")
	return []any{
		texts, base64.StdEncoding.EncodeToString(some), base64.RawURLEncoding.EncodeToString(some), numbers(decoded), numbers(fromURL),
		string(foobar), hex.EncodeToString(foobar), numbers(coffee),
	}, err
}

func numbers(b []byte) []int {
	list := make([]int, len(b))
	for i, x := range b {
		list[i] = int(x)
	}
	return list
}
