"""A workflow as the browser saves it becomes the prompt the browser would send."""

import pytest

from scripts.graph import GraphError, find_nodes, override, sync_widgets, to_prompt, widget_slots

INFO = {
    "LoadImage": {
        "input": {"required": {"image": [["a.png"], {"image_upload": True}]}},
        "display_name": "Load Image",
    },
    "LoadMask": {
        "input": {"required": {"image": [["a.png"], {"image_upload": True}], "channel": [["alpha", "red"]]}}
    },
    "Sampler": {
        "input": {
            "required": {
                "model": ["MODEL"],
                "seed": ["INT", {"control_after_generate": True}],
                "steps": ["INT", {}],
                "cfg": ["FLOAT", {}],
                "name": ["COMBO", {"options": ["euler"]}],
            },
            "optional": {"forced": ["FLOAT", {"forceInput": True}], "note": ["STRING", {"multiline": True}]},
        },
        "input_order": {
            "required": ["model", "seed", "steps", "cfg", "name"],
            "optional": ["forced", "note"],
        },
    },
    "Resize": {
        "input": {
            "required": {
                "image": ["IMAGE"],
                "mode": [
                    "COMFY_DYNAMICCOMBO_V3",
                    {
                        "options": [
                            {
                                "key": "size",
                                "inputs": {"required": {"width": ["INT", {}], "height": ["INT", {}]}},
                            },
                            {"key": "scale", "inputs": {"required": {"factor": ["FLOAT", {}]}}},
                        ]
                    },
                ],
                "crop": ["BOOLEAN", {}],
            }
        }
    },
    "Invert": {"input": {"required": {"image": ["IMAGE"]}}},
    "Model": {"input": {"required": {"file": [["m"]]}}},
    "Area": {"input": {"required": {"box": ["BOUNDING_BOX", {}], "image": ["IMAGE"]}}},
    "Save": {"input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {}]}}},
}


def node(node_id, kind, values=None, inputs=(), outputs=(), mode=0, **more):
    sockets = [
        {"name": name, "type": socket, "link": link, **({"widget": {"name": name}} if widget else {})}
        for name, socket, link, widget in inputs
    ]
    return {
        "id": node_id,
        "type": kind,
        "mode": mode,
        "inputs": sockets,
        "widgets_values": values,
        "outputs": [{"name": socket, "type": socket} for socket in outputs],
        **more,
    }


def convert(nodes, links=()):
    return to_prompt({"nodes": list(nodes), "links": list(links)}, INFO)


def test_widgets_are_read_in_input_order_past_the_extra_values():
    prompt = convert(
        [
            node(1, "Sampler", [42, "randomize", 4, 1.5, "euler", "text"], title="My sampler"),
            node(2, "Sampler", [42, 4, 1.5, "euler", "text"]),
            node(3, "LoadImage", ["x.png", "image"]),
            node(4, "LoadMask", ["x.png", "red", "image"]),
        ]
    )
    expected = {"seed": 42, "steps": 4, "cfg": 1.5, "name": "euler", "note": "text"}
    assert prompt["1"] == {"class_type": "Sampler", "inputs": expected, "_meta": {"title": "My sampler"}}
    assert prompt["2"]["inputs"] == expected
    assert prompt["3"] == {
        "class_type": "LoadImage",
        "inputs": {"image": "x.png"},
        "_meta": {"title": "Load Image"},
    }
    assert prompt["4"]["inputs"] == {"image": "x.png", "channel": "red"}


def test_widgets_by_name_dynamic_ones_and_lists():
    prompt = convert(
        [
            node(1, "Sampler", {"seed": 1, "steps": 2, "videopreview": {}}),
            node(2, "Resize", ["size", 64, 32, True]),
            node(3, "Resize", ["scale", 0.5, False]),
            node(4, "Area", [[1, 2, 3, 4]]),
        ]
    )
    assert prompt["1"]["inputs"] == {"seed": 1, "steps": 2}
    assert prompt["2"]["inputs"] == {"mode": "size", "mode.width": 64, "mode.height": 32, "crop": True}
    assert prompt["3"]["inputs"] == {"mode": "scale", "mode.factor": 0.5, "crop": False}
    assert prompt["4"]["inputs"] == {"box": {"__value__": [1, 2, 3, 4]}}


def test_both_link_formats_and_a_linked_widget():
    links = [
        [1, 1, 0, 2, 0, "MODEL"],
        {"id": 2, "origin_id": 3, "origin_slot": 1, "target_id": 2, "target_slot": 1, "type": "INT"},
    ]
    prompt = convert(
        [
            node(1, "Model", ["m"]),
            node(3, "Model", ["m"]),
            node(
                2,
                "Sampler",
                [5, "fixed", 4, 1.0, "euler", ""],
                [("model", "MODEL", 1, False), ("seed", "INT", 2, True)],
            ),
        ],
        links,
    )
    assert prompt["2"]["inputs"]["model"] == ["1", 0] and prompt["2"]["inputs"]["seed"] == ["3", 1]
    assert prompt["2"]["inputs"]["steps"] == 4


def test_notes_reroutes_and_primitives_are_resolved():
    links = [
        [1, 1, 0, 2, 0, "IMAGE"],
        [2, 2, 0, 3, 0, "IMAGE"],
        [3, 4, 0, 5, 0, "INT"],
        [4, 3, 0, 6, 0, "IMAGE"],
    ]
    prompt = convert(
        [
            node(1, "LoadImage", ["x.png", "image"]),
            node(2, "Reroute", inputs=[("", "*", 1, False)]),
            node(3, "Invert", inputs=[("image", "IMAGE", 2, False)]),
            node(4, "PrimitiveNode", [9, "fixed"]),
            node(5, "Sampler", [1, "fixed", 4, 1.0, "euler", ""], [("seed", "INT", 3, True)]),
            node(6, "Save", ["p"], [("images", "IMAGE", 4, False)]),
            node(7, "Note", ["hi"]),
            node(8, "MarkdownNote", ["# hi"]),
        ],
        links,
    )
    assert sorted(prompt) == ["1", "3", "5", "6"]
    assert prompt["3"]["inputs"]["image"] == ["1", 0] and prompt["5"]["inputs"]["seed"] == 9


@pytest.mark.parametrize(("mode", "expected"), [(0, ["2", 0]), (4, ["1", 0]), (2, None)])
def test_muted_and_bypassed_nodes(mode, expected):
    links = [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]]
    prompt = convert(
        [
            node(1, "LoadImage", ["x.png", "image"], outputs=["IMAGE", "MASK"]),
            node(2, "Invert", [], [("image", "IMAGE", 1, False)], ["IMAGE"], mode=mode),
            node(3, "Save", ["p"], [("images", "IMAGE", 2, False)]),
        ],
        links,
    )
    assert ("2" in prompt) == (mode == 0)
    assert prompt["3"]["inputs"].get("images") == expected


def test_a_bypassed_node_hands_the_matching_type_through():
    links = [[1, 1, 0, 2, 0, "MODEL"], [2, 4, 0, 2, 1, "IMAGE"], [3, 2, 0, 3, 0, "IMAGE"]]
    prompt = convert(
        [
            node(1, "Model", ["m"]),
            node(4, "LoadImage", ["x.png"]),
            node(
                2,
                "NotInstalled",
                [],
                [("model", "MODEL", 1, False), ("image", "IMAGE", 2, False)],
                ["IMAGE"],
                mode=4,
            ),
            node(3, "Save", ["p"], [("images", "IMAGE", 3, False)]),
        ],
        links,
    )
    assert prompt["3"]["inputs"]["images"] == ["4", 0]


def test_what_cannot_be_converted_is_named():
    with pytest.raises(GraphError, match="Unheard"):
        convert([node(1, "Unheard")])
    with pytest.raises(GraphError, match="no ComfyUI workflow"):
        to_prompt({"hello": 1}, INFO)
    workflow = {
        "nodes": [node(1, "uuid", title="Box")],
        "links": [],
        "definitions": {"subgraphs": [{"id": "uuid"}]},
    }
    with pytest.raises(GraphError, match="cannot be expanded.*nodes"):
        to_prompt(workflow, INFO)
    circle = [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 1, 0, "IMAGE"], [3, 1, 0, 3, 0, "IMAGE"]]
    with pytest.raises(GraphError, match="cycle"):
        convert(
            [
                node(1, "Reroute", inputs=[("", "*", 2, False)]),
                node(2, "Reroute", inputs=[("", "*", 1, False)]),
                node(3, "Save", ["p"], [("images", "IMAGE", 3, False)]),
            ],
            circle,
        )


def test_overrides_reach_the_prompt_and_the_saved_workflow():
    workflow = {
        "nodes": [
            node(1, "Sampler", [42, "randomize", 4, 1.5, "euler", ""]),
            node(2, "LoadImage", ["x.png", "image"]),
        ],
        "links": [],
    }
    prompt = to_prompt(workflow, INFO)
    assert override(prompt, INFO, ("steps",), 9) == ["1"] and override(
        prompt, INFO, ("seed", "noise_seed"), 7
    ) == ["1"]
    assert override(prompt, INFO, ("fidelity",), 0.5) == []
    prompt[find_nodes(prompt, "LoadImage")[0]]["inputs"]["image"] = "y.png"
    saved = sync_widgets(workflow, prompt, INFO)
    assert saved["nodes"][0]["widgets_values"] == [7, "randomize", 9, 1.5, "euler", ""]
    assert saved["nodes"][1]["widgets_values"] == ["y.png", "image"] and workflow["nodes"][1][
        "widgets_values"
    ] == ["x.png", "image"]
    assert to_prompt(saved, INFO) == prompt
    assert widget_slots(workflow["nodes"][0], INFO) == {"seed": 0, "steps": 2, "cfg": 3, "name": 4, "note": 5}


def test_a_prompt_passes_as_it_is():
    prompt = {"1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}}}
    converted = to_prompt(prompt, INFO)
    converted["1"]["inputs"]["image"] = "y.png"
    assert prompt["1"]["inputs"]["image"] == "x.png"
