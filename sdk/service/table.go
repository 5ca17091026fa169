package service

// Services returns the table.
func Services() []Service {
	return []Service{
		{
			Name: "kv", Handle: "collection", Type: "KV", Go: "ctx.KV(collection)",
			Declares: `/** A page of a list, and the cursor of the next; empty: there is none. */
  export interface Page<T> { items: T[]; nextCursor: string }

  /** A value by key, with its version, 0 for none, and when it expires. */
  export interface Item<T> { key: string; value?: T; version: number; expiresAt?: string }`,
			Says: "Values by key, in a collection of the app. A collection needs no making.",
			Methods: []Method{
				{
					Name: "get", Go: "Get(key, &v)", Params: []Param{{Field: "key"}}, Result: "value", TS: "<T = unknown>: T | undefined",
					Says: "The value of a key; nothing if there is none.",
				},
				{
					Name: "entry", Go: "Entry(key)", Call: "get", Params: []Param{{Field: "key"}}, TS: "<T = unknown>: Item<T>",
					Says: "The value of a key with its version and when it expires. Without a value its version is 0.",
				},
				{
					Name: "has", Go: "Has(key)", Params: []Param{{Field: "key"}}, Result: "found", TS: ": boolean",
					Says: "Whether there is a value.",
				},
				{
					Name: "set", Go: "Set(key, v, options), SetIf(key, v, version, options)", Params: []Param{
						{Field: "key"},
						{Field: "value", Kind: Value},
						{Field: "ttl_ms", Kind: Duration, Option: true},
						{Field: "if_version", Kind: Number, Option: true},
					}, Result: "version", TS: ": number",
					Says: "Sets the value of a key, and returns its version. With a time to live it is gone after that; with the version that it has to have, 0 for none, the call fails with conflict if it has another.",
				},
				{
					Name: "delete", Go: "Delete(key), DeleteIf(key, version)", Params: []Param{{Field: "key"}, {Field: "if_version", Kind: Number, Option: true}}, Result: "deleted",
					TS: ": boolean", Says: "Deletes a key, and says whether there was a value.",
				},
				{
					Name: "increment", Go: "Increment(key, by, options)", Params: []Param{
						{Field: "key"}, {Field: "by", Kind: Number, Option: true}, {Field: "ttl_ms", Kind: Duration, Option: true},
					}, Result: "value", TS: ": number",
					Says: "Adds to a number, 1 where nothing is said, and returns the sum. A key without a value counts from 0, and lives as long as is said then.",
				},
				{
					Name: "list", Go: "List(options)", Params: []Param{
						{Field: "prefix", Option: true}, {Field: "limit", Kind: Number, Option: true}, {Field: "cursor", Option: true},
					}, TS: "<T = unknown>: Page<Item<T>>",
					Says: "Keys with their values, in order: up to 100, at most 1,000, and the cursor of the next page.",
				},
			},
		},
		{
			Name: "files", Handle: "collection", Type: "Files", Go: "ctx.Files(collection)",
			Declares: `/** What a file is called and what is known of its content: its size in bytes, and its SHA-256 in hexadecimal. */
  export interface File { id: string; name: string; contentType: string; size: number; sha256: string; createdAt: string; updatedAt: string }`,
			Says: "Files with a name and a media type, in a collection of the app. A collection needs no making.",
			Methods: []Method{
				{
					Name: "create", Go: "Create(name, contentType, data)", Params: []Param{
						{Field: "name"}, {Field: "data", Kind: Data}, {Field: "content_type", Option: true}, {Field: "id", Option: true},
					}, TS: ": File",
					Says: "Makes a file of up to 8 MiB, or with the id of one that is there gives it another name and content.",
				},
				{
					Name: "get", Go: "Get(id)", Params: []Param{{Field: "id"}}, Result: "data_base64", TS: ": Uint8Array | undefined",
					Says: "The content of a file of up to 8 MiB, checked; nothing if there is none.",
				},
				{
					Name: "head", Go: "Head(id)", Params: []Param{{Field: "id"}}, Result: "file", TS: ": File | undefined",
					Says: "What is known of a file; nothing if there is none.",
				},
				{
					Name: "delete", Go: "Delete(id)", Params: []Param{{Field: "id"}}, Result: "deleted", TS: ": boolean",
					Says: "Deletes a file, and says whether there was one.",
				},
				{
					Name: "list", Go: "List(options)", Params: []Param{{Field: "limit", Kind: Number, Option: true}, {Field: "cursor", Option: true}},
					TS: ": Page<File>", Says: "Files, the oldest first: up to 100, at most 1,000, and the cursor of the next page.",
				},
				{
					Name: "begin", Go: "Writer(name, contentType)", Result: "upload", TS: ": string",
					Says: "Begins to write a large file, up to 1 GiB, and returns what names it until it is finished.",
				},
				{
					Name: "write", Params: []Param{{Field: "upload"}, {Field: "offset", Kind: Number}, {Field: "data", Kind: Data}}, Result: "size", TS: ": number",
					Says: "Writes the next part of it, up to 8 MiB, behind as many bytes as are there, and returns how many there are then.",
				},
				{
					Name: "finish", Params: []Param{
						{Field: "upload"}, {Field: "name"}, {Field: "content_type", Option: true}, {Field: "id", Option: true},
					}, TS: ": File", Says: "Makes the file.",
				},
				{
					Name: "read", Go: "Reader(id)", Params: []Param{{Field: "id"}, {Field: "block", Kind: Number}},
					TS:   ": { data: Uint8Array; more: boolean; content: string }",
					Says: "Reads a block of 1 MiB, counted from 0, checked, and says whether there is more. The content's name changes when the file is written.",
				},
			},
		},
		{
			Name: "pubsub", Type: "PubSub",
			Says: "Messages under topics, which are words divided by dots: user.created. Triggers of kind pubsub take them.",
			Methods: []Method{
				{
					Name: "publish", Go: "ctx.Publish(topic, message, delivery)",
					Params: append([]Param{{Field: "topic"}, {Field: "message", Kind: Value}}, Delivery()...),
					Result: "deliveries", TS: ": number",
					Says: "Brings a message to every trigger of the app that takes its topic, all or none, and returns how many there are. The options are those of a delivery.",
				},
				{
					Name: "publish_ephemeral", Go: "ctx.PublishEphemeral(topic, message)",
					Params: []Param{{Field: "topic"}, {Field: "message", Kind: Value}}, TS: ": { deliveries: number; dropped: number }",
					Says: "Hands a message to the triggers that take its topic, where a slot of this node is free now, and says how many that were, and for how many there was none. It is not written anywhere: each runs at most once, and leaves no record.",
				},
			},
		},
		{
			Name: "docs", Handle: "collection", Type: "Docs", Go: "ctx.Docs(collection)",
			Declares: `/** A document, with its id, its version and when it was made and changed. */
  export interface Doc<T> { id: string; data: T; version: number; createdAt: string; updatedAt: string }

  /** What is asked of documents: what is at each path, such as "address.city", or an object of operators: $eq $ne $gt $gte $lt $lte $in $exists $regex; around filters $and and $or. */
  export type Filter = { [path: string]: unknown }`,
			Says: "Documents: JSON objects with an id, in a collection of the app, which are found by what is in them. A collection needs no making.",
			Methods: []Method{
				{
					Name: "create", Go: "Create(v), CreateAs(id, v)", Params: []Param{{Field: "data", Kind: Value}, {Field: "id", Option: true}},
					TS: "<T = unknown>: Doc<T>", Says: "Stores an object under a new id, or one that is given: a UUID that no document has yet.",
				},
				{
					Name: "get", Go: "Get(id, &v), Doc(id)", Params: []Param{{Field: "id"}}, Result: "doc", TS: "<T = unknown>: Doc<T> | undefined",
					Says: "The document of an id; nothing if there is none.",
				},
				{
					Name: "update", Go: "Update(id, v), UpdateIf(id, v, version)",
					Params: []Param{{Field: "id"}, {Field: "data", Kind: Value}, {Field: "if_version", Kind: Number, Option: true}},
					TS:     "<T = unknown>: Doc<T>", Says: "Replaces what a document holds. With a version, the call fails with conflict if the document has another by now.",
				},
				{
					Name: "delete", Go: "Delete(id), DeleteIf(id, version)", Params: []Param{{Field: "id"}, {Field: "if_version", Kind: Number, Option: true}},
					Result: "deleted", TS: ": boolean", Says: "Deletes a document, and says whether there was one.",
				},
				{
					Name: "find", Go: "Find(filter, options)", Params: []Param{
						{Field: "filter", Kind: Value},
						{Field: "sort", Kind: Texts, Option: true},
						{Field: "limit", Kind: Number, Option: true},
						{Field: "cursor", Option: true},
					}, TS: "<T = unknown>: Page<Doc<T>>",
					Says: "The documents that a filter takes, up to 100, at most 200, and the cursor of the next page. They are sorted by paths, with - before those that go down. A find that no index serves looks at no more than 10,000 documents; beyond that it fails, and says which index would help.",
				},
				{
					Name: "find_one", Go: "FindOne(filter, sort...)", Params: []Param{{Field: "filter", Kind: Value}, {Field: "sort", Kind: Texts, Option: true}},
					Result: "doc", TS: "<T = unknown>: Doc<T> | undefined", Says: "The first document that a filter takes; nothing if there is none.",
				},
				{
					Name: "list", Go: "Find(nil, options)", Params: []Param{{Field: "limit", Kind: Number, Option: true}, {Field: "cursor", Option: true}},
					TS: "<T = unknown>: Page<Doc<T>>", Says: "All documents, page by page.",
				},
				{
					Name: "index", Go: "Index(path, type)", Params: []Param{{Field: "path"}, {Field: "type"}}, Result: "state", TS: ": string",
					Says: `Makes an index of what is at a path, "text", "number", "bool" or "time", for filters and orders by it. It is ready afterwards; where there is one nothing happens.`,
				},
			},
		},
		httpService(), secretsService(), sinkService(), emailService(), invokeService(), queueService(),
	}
}
