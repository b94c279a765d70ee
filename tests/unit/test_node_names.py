"""A node's errors begin with its own name, once, whoever raises them."""

import errno

import pytest
import torch
from aior_pack.tests.tiny import picture

pytestmark = pytest.mark.usefixtures("comfyui")


@pytest.fixture(scope="module")
def nodes(comfyui):
    """The nodes by their ids."""
    from aior_pack.nodes import NODES

    return {node.define_schema().node_id: node for node in NODES}


@pytest.fixture(scope="module")
def names(nodes):
    return {node_id: node.define_schema().display_name for node_id, node in nodes.items()}


def told(nodes, node_id, kind=ValueError, **inputs):
    """What the node says of wrong inputs, as the host calls it."""
    with pytest.raises(kind) as caught, torch.inference_mode():
        nodes[node_id].EXECUTE_NORMALIZED(**inputs)
    return str(caught.value)


WRONG = {
    "AIOR_LoadCompact": {"file": "../nothing"},
    "AIOR_LoadRestorer": {"file": "../nothing"},
    "AIOR_LoadUNet": {"file": "../nothing"},
    "AIOR_EncodePrior": {"restorer": None, "vae": None, "image": None},
    "AIOR_ApplyDAFF": {
        "model": None,
        "restorer": None,
        "prior": None,
        "strength": 1.0,
        "start_percent": 0.0,
        "end_percent": 1.0,
    },
    "AIOR_DAFFSampler": {"model": None, "restorer": None, "prior": None, "start_point": "noise"},
    "AIOR_DecodeDAEM": {
        "samples": None,
        "vae": None,
        "restorer": None,
        "prior": None,
        "strength": 1.0,
        "tile": 0,
        "color_fix": "none",
    },
    "AIOR_PriorFromBatch": {"prior": None, "batch_index": 0, "length": 1},
    "AIOR_PriorReport": {"prior": None},
    "AIOR_SteerPrior": {"prior": None, "noise": 0.5},
    "AIOR_Inspect": {"model": None, "vae": None, "restorer": None, "prior": None},
    "AIOR_Degrade": {"image": None, "degradation": "noise", "severity": 0.5, "seed": 0},
    "AIOR_Measure": {"reference": None, "image": None},
    "AIOR_TrainRestorer": {
        "model": None,
        "vae": None,
        "restorer": None,
        "folder": "",
        "stage": "detail",
        "minutes": 1.0,
        "learning_rate": 1.0,
        "seed": 0,
        **dict.fromkeys(
            ("noise", "blur", "low_resolution", "rain", "snow", "haze", "low_light", "jpeg"), True
        ),
    },
    "AIOR_SaveRestorer": {"restorer": None, "filename_prefix": "x"},
}


def test_every_node_names_itself_and_no_other_node_in_front(nodes, names):
    assert WRONG.keys() == nodes.keys()
    for node_id, inputs in WRONG.items():
        text = told(nodes, node_id, **inputs)
        assert text.startswith(f"{names[node_id]}: ") and text.count(f"{names[node_id]}: ") == 1, text
        assert not any(f"{other}: " in text for other in names.values() if other != names[node_id]), text


def test_a_recipe_that_is_none_and_a_picture_of_text_are_told_in_the_nodes_name(nodes):
    given = {"image": picture(16, 16), "degradation": "from recipe", "severity": 0.5, "seed": 0}
    for recipe in ("", "not JSON", "[]", '{"steps": 3}'):
        assert told(nodes, "AIOR_Degrade", **given, recipe=recipe).startswith("Synthesize Degradation: ")


def test_the_sampler_says_its_own_name_of_what_is_found_while_daff_is_applied_or_at_work(nodes, walk):
    prior = walk.encode(picture(64, 64))
    inputs = {
        "model": walk.model,
        "restorer": walk.restorer,
        "prior": prior,
        "start_point": "noise",
        "steps": 1,
    }
    text = told(nodes, "AIOR_DAFFSampler", **inputs, positive="words")
    assert text.startswith("DAFF Sampler: positive is a str") and "Apply DAFF" not in text
    text = told(
        nodes,
        "AIOR_ApplyDAFF",
        **{**WRONG["AIOR_ApplyDAFF"], "model": walk.model, "restorer": walk.restorer, "prior": prior},
        positive="words",
    )
    assert text.startswith("Apply DAFF: positive is a str")


def test_below_the_nodes_no_name_is_put_before_an_error(walk):
    prior = walk.encode(picture(64, 64))
    with pytest.raises(ValueError, match=r"^ensemble is 9"):
        walk.decode({"samples": prior.latent}, prior, ensemble=9)
    with pytest.raises(ValueError, match=r"^the picture is 8x8"):
        walk.encode(picture(8, 8))


def test_errors_keep_their_kind_and_what_they_know():
    from aior_pack.nodes.named_errors import named_errors

    def passed(error):
        with pytest.raises(type(error)) as caught, named_errors(lambda: "A Node"):
            raise error
        assert caught.value is error
        return str(error)

    assert (
        passed(ValueError("no")) == "A Node: no"
        and passed(RuntimeError("no")) == "A Node: no"
        and passed(FileNotFoundError("no")) == "A Node: no"
    )
    assert passed(torch.OutOfMemoryError("out of memory")) == "A Node: out of memory"
    assert passed(ValueError("A Node: no")) == "A Node: no"
    system = OSError(errno.ENOSPC, "No space left on device")
    assert (
        passed(system) == str(OSError(errno.ENOSPC, "No space left on device"))
        and system.errno == errno.ENOSPC
    )
    assert passed(UnicodeDecodeError("utf-8", b"x", 0, 1, "wrong")).startswith("'utf-8' codec")
    assert passed(KeyError("key")) == "'key'"


def test_the_hosts_interrupt_passes_as_it_is(comfyui):
    import comfy.model_management as management
    from aior_pack.nodes.named_errors import named_errors

    with pytest.raises(management.InterruptProcessingException) as caught, named_errors(lambda: "A Node"):
        raise management.InterruptProcessingException
    assert not caught.value.args


def test_every_node_has_the_base_class_and_a_clone_of_it_names_itself_once(nodes):
    """ComfyUI runs a clone of the class, made anew from the class's own attributes."""
    from aior_pack.nodes.named_errors import RestorationNode

    assert all(issubclass(node, RestorationNode) for node in nodes.values())
    clones = {node_id: node.PREPARE_CLASS_CLONE(None) for node_id, node in nodes.items()}
    for node_id, clone in clones.items():
        assert clone.execute.__func__ is nodes[node_id].execute.__func__, node_id
    assert told(clones, "AIOR_PriorReport", **WRONG["AIOR_PriorReport"]).count("Degradation Report: ") == 1
