package service

func secretsService() Service {
	return Service{
		Name: "secrets", Type: "Secrets", Go: "ctx.Secrets",
		Says: "Values that only scripts of the app read. What a run has read or set is masked in its logs and errors, from four bytes on.",
		Methods: []Method{
			{
				Name: "get", Go: "Get(name, &v), Text(name)", Params: []Param{{Field: "name"}}, Result: "value", TS: "<T = string>: T | undefined",
				Says: "The value of a secret; nothing if there is none.",
			},
			{
				Name: "set", Go: "Set(name, v)", Params: []Param{{Field: "name"}, {Field: "value", Kind: Value}}, Result: "nothing", TS: ": void",
				Says: "Sets a secret: up to 64 KiB of JSON.",
			},
			{
				Name: "delete", Go: "Delete(name)", Params: []Param{{Field: "name"}}, Result: "deleted", TS: ": boolean",
				Says: "Deletes a secret, and says whether there was one.",
			},
			{Name: "list", Go: "List()", Result: "names", TS: ": string[]", Says: "The names of all secrets."},
		},
	}
}
