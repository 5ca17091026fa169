package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	return ctx.SendEmail(&picloud.Email{
		To: []string{"ada@example.com"}, CC: []string{"b@example.com"}, ReplyTo: "c@example.com",
		Subject: "Hi", Text: "hello", HTML: "<p>hello</p>",
		Attachments: []picloud.Attachment{{Name: "a.csv", ContentType: "text/csv", Data: []byte("1,2")}},
	}, &picloud.Delivery{IdempotencyKey: "k"})
}
