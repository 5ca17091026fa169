package service

// delivered are the options of a delivery.
func delivered() []Param {
	return []Param{
		{Field: "delay_ms", Kind: Duration, Option: true},
		{Field: "expires_in_ms", Kind: Duration, Option: true},
		{Field: "priority", Kind: Number, Option: true},
		{Field: "max_attempts", Kind: Number, Option: true},
		{Field: "ordering_key", Option: true},
		{Field: "idempotency_key", Option: true},
	}
}

func sinkService() Service {
	return Service{
		Name: "sink", Handle: "sink", Type: "Sink", Go: "ctx.Sink(name)",
		Says: "What leaves the platform: to a URL, a mail server, or what a plugin reaches. A sink is made with picloud sinks create.",
		Methods: []Method{{
			Name: "send", Go: "Send(v, delivery), SendAs(type, v, delivery)",
			Params: append([]Param{{Field: "message", Kind: Value}, {Field: "type", Option: true}}, delivered()...), Result: "id", TS: ": string",
			Says: "Has a message delivered: a text as it is, anything else as JSON, up to 1 MiB; and says what it is, with a type such as order.paid. It returns the id of the execution that delivers it, again where it fails. The options are those of a delivery.",
		}},
	}
}

func emailService() Service {
	return Service{
		Name: "email", Type: "Email",
		Says: "E-mail, by the mail server that the settings smtp_host and so on name.",
		Methods: []Method{{
			Name: "send", Go: "ctx.SendEmail(&picloud.Email{…}, delivery)", Params: append([]Param{
				{Field: "to", Kind: Value, Option: true},
				{Field: "subject", Option: true},
				{Field: "text", Option: true},
				{Field: "html", Option: true},
				{Field: "from", Option: true},
				{Field: "cc", Kind: Value, Option: true},
				{Field: "bcc", Kind: Value, Option: true},
				{Field: "reply_to", Option: true},
				{Field: "attachments", Kind: Value, Option: true},
			}, delivered()...), Result: "id", TS: ": string",
			Says: "Has a message sent, to one address or a list of up to 100 with those in cc and bcc: with a subject, and a text, an HTML page or both. Attachments are a list of objects with name, content_type, and data as text or data_base64. All together, as JSON, has at most 6 MiB. It returns the id of the execution that sends it, again where that fails. Where e-mail is not configured it fails with unavailable.",
		}},
	}
}
