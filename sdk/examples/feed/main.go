// Feed is a source that follows a list of events over HTTP, as an example of a plugin that is not part of PiCloud.
//
//	CGO_ENABLED=0 go build -o feed ./sdk/examples/feed
//	picloud plugin add ./feed
//	picloud sources create news --kind feed --config '{"url": "https://feed.example.com/items"}'
package main

import (
	"github.com/picloud/picloud/sdk/source"
	"github.com/picloud/picloud/sdk/source/sourcetest/feed"
)

func main() { source.Serve(feed.New()) }
