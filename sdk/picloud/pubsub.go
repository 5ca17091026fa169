package picloud

import "encoding/json"

// PublishEphemeral hands a message to the triggers that take its topic, where a slot of the node is free now, and returns how many
// that were, and for how many there was none. The message is written nowhere: each runs at most once, and leaves no record.
func (c *Context) PublishEphemeral(topic string, v any) (deliveries, dropped int, err error) {
	message, err := c.runtime.JSON(v)
	if err != nil {
		return 0, 0, &Error{Code: InvalidArgument, Message: "the message cannot be sent: " + err.Error()}
	}
	var answer struct{ Deliveries, Dropped int }
	err = call(c.runtime, "pubsub", "publish_ephemeral", struct {
		Topic   string          `json:"topic"`
		Message json.RawMessage `json:"message"`
	}{topic, message}, &answer)
	return answer.Deliveries, answer.Dropped, err
}

// Publish brings a message to every trigger of the app that takes its topic, words divided by dots such as "order.paid", and returns
// how many there are: none is no error. The message is what v is as JSON, at most 1 MiB. Either all triggers have it or, with an
// error, none. opts are beyond what the policies of the triggers say.
func (c *Context) Publish(topic string, v any, opts ...*Delivery) (deliveries int, err error) {
	o, err := one(opts)
	if err != nil {
		return 0, err
	}
	message, err := c.runtime.JSON(v)
	if err != nil {
		return 0, &Error{Code: InvalidArgument, Message: "the message cannot be sent: " + err.Error()}
	}
	var answer struct{ Deliveries int }
	err = call(c.runtime, "pubsub", "publish", struct {
		Topic   string          `json:"topic"`
		Message json.RawMessage `json:"message"`
		*delivery
	}{topic, message, o.wire()}, &answer)
	return answer.Deliveries, err
}
