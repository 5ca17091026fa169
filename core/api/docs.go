package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/swaggest/swgui/v5emb"
)

var inlineScript = regexp.MustCompile(`(?s)<script>(.*?)</script>`)

// serveDocs serves Swagger UI under /docs, from this binary alone. Its page has scripts in it, which the policy allows
// by their hashes; its styles are set by script, so inline styles must be allowed.
func serveDocs(mux *http.ServeMux, doc *huma.OpenAPI) {
	ui := v5emb.New(doc.Info.Title, "/openapi.json", "/docs")
	page := &captured{headOnly: headOnly{header: http.Header{}}}
	ui.ServeHTTP(page, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/docs/"}})
	var hashes strings.Builder
	for _, m := range inlineScript.FindAllSubmatch(page.body.Bytes(), -1) {
		sum := sha256.Sum256(m[1])
		hashes.WriteString(" 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'")
	}
	policy := contentPolicy + "; script-src 'self'" + hashes.String() +
		"; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("Cache-Control", "no-cache")
		ui.ServeHTTP(w, r)
	})
	mux.Handle("GET /docs", handler)
	mux.Handle("GET /docs/", handler)
}

// captured is a response kept in memory.
type captured struct {
	headOnly
	body bytes.Buffer
}

func (c *captured) Write(b []byte) (int, error) { return c.body.Write(b) }
