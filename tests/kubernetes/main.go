// Reads manifests on standard input and says what an API server would refuse of them: unknown fields and wrong types, by
// Kubernetes' own types, and pods that the level `restricted` of Pod Security does not let through, by its own code.
// Kinds that Kubernetes does not bring are passed over. `.ci/run` calls it.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

func main() {
	taken, refused, err := check(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	fmt.Printf("%d objects taken, %d faults\n", taken, refused)
	if refused > 0 || taken == 0 {
		os.Exit(1)
	}
}

func check(input io.Reader) (taken, refused int, err error) {
	options := json.SerializerOptions{Yaml: true, Strict: true}
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme.Scheme, scheme.Scheme, options)
	restricted, err := policy.NewEvaluator(policy.DefaultChecks())
	if err != nil {
		return 0, 0, err
	}
	reader := yaml.NewYAMLReader(bufio.NewReader(input))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return taken, refused, nil
		}
		if err != nil {
			return taken, refused, err
		}
		if len(bytes.TrimSpace(bytes.TrimPrefix(document, []byte("---")))) == 0 {
			continue
		}
		object, kind, err := decoder.Decode(document, nil, nil)
		if runtime.IsNotRegisteredError(err) {
			fmt.Println(kind, "is not Kubernetes' own: not checked")
			continue
		}
		if err != nil {
			fmt.Println(kind, err)
			refused++
			continue
		}
		taken++
		if set, ok := object.(*appsv1.StatefulSet); ok {
			level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
			pod := &set.Spec.Template
			for _, result := range restricted.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec) {
				if !result.Allowed {
					fmt.Println(kind, result.ForbiddenReason, result.ForbiddenDetail)
					refused++
				}
			}
		}
	}
}
