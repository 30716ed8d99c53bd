import numpy as np
import pytest

from trivet.data.sources import read_dataset
from trivet.errors import DataError, UsageError


def read(path, **options):
    return read_dataset(path, val_share=0.0, **options)


def names(problems):
    return [found.name for found in problems]


@pytest.mark.parametrize(
    "text",
    [
        "image,xmin,ymin,xmax,ymax,label\na.jpg,8,12,24,36,dog\n",
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,64,48,dog,8,12,24,36\n",
        "Image Name;X_Min;Y_Min;X_Max;Y_Max;Class Name\na.jpg;8;12;24;36;dog\n",
        "path\tx1\ty1\tx2\ty2\tcategory\na.jpg\t8\t12\t24\t36\tdog\n",
        "a.jpg,8,12,24,36,dog\n",
        "image_id,x,y,w,h,label\na,8,12,16,24,dog\n",
        "label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height\ndog,8,12,16,24,a.jpg,64,48\n",
        "image,x_center,y_center,width,height,label\na.jpg,16,24,16,24,dog\n",
        "image,x_center,y_center,width,height,label\na.jpg,0.25,0.5,0.25,0.5,dog\n",
        'image_id,width,height,bbox,label\na,64,48,"[8.0, 12.0, 16.0, 24.0]",dog\n',
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\na,x,dog,1,0.125,0.375,0.25,0.75,0\n",
    ],
)
def test_columns_are_found_by_their_names(make, text):
    make.image("images/a.jpg")
    make.text("boxes.csv", "\ufeff" + text)
    splits = read(make.root)
    assert splits.train.name(0) == "images/a.jpg"
    assert splits.train.truth.boxes_xyxy.tolist() == [[8, 12, 24, 36]]
    assert splits.labels.names == ("dog",)
    assert splits.problems == ()


def test_a_table_without_classes_has_one(make):
    make.image("a.jpg")
    make.text("boxes.csv", 'image_id,width,height,bbox,source\na,64,48,"[8.0, 12.0, 16.0, 24.0]",x\n')
    assert read(make.root).labels.names == ("object",)


def test_classes_are_numbered_in_order_numbers_by_value(make):
    make.image("a.jpg")
    rows = [f"a.jpg,1,1,9,9,{name}" for name in ("dog", "10", "9", "cat")]
    make.text("boxes.csv", "\n".join(rows))
    split = read(make.root).train
    assert split.labels.names == ("9", "10", "cat", "dog")
    assert split.truth.labels.tolist() == [3, 1, 0, 2]


def test_classes_csv_numbers_them_and_what_it_lacks_is_a_fault(make):
    make.image("a.jpg")
    make.text("classes.csv", "zebra,0\ncat,2\nape,1\n")
    make.text("annotations.csv", "a.jpg,1,1,9,9,cat\na.jpg,1,1,8,8,cow\n")
    split = read(make.root).train
    assert split.labels.names == ("zebra", "ape", "cat")
    assert split.truth.labels.tolist() == [2]
    assert [str(found) for found in split.problems] == [
        "unknown-label: annotations.csv: line 2: class 'cow' is not in the list of classes (skipped box)"
    ]


@pytest.mark.parametrize("first", ["a.jpg,1,1,9,9,cat\nb.jpg,,,,,\n", "b.jpg,,,,,\na.jpg,1,1,9,9,cat\n"])
def test_an_empty_row_is_a_negative(make, first):
    for name in "ab":
        make.image(f"{name}.jpg")
    make.text("train.csv", first)
    split = read(make.root).train
    assert sorted(
        zip([split.name(i) for i in range(2)], np.diff(split.truth.offsets).tolist(), strict=True)
    ) == [
        ("a.jpg", 1),
        ("b.jpg", 0),
    ]


def test_a_column_tells_the_split(make):
    for name in "abc":
        make.image(f"{name}.jpg")
    rows = ["image,x1,y1,x2,y2,label,split"]
    rows += [
        f"{name}.jpg,1,1,9,9,cat,{split}"
        for name, split in zip("abc", ("TRAIN", "valid", "test"), strict=True)
    ]
    make.text("all.csv", "\n".join(rows))
    splits = read(make.root)
    assert [(split.split, split.name(0)) for split in splits.given] == [
        ("train", "a.jpg"),
        ("val", "b.jpg"),
        ("test", "c.jpg"),
    ]


def test_files_tell_the_split_and_two_of_one_are_refused(make):
    for split in ("train", "valid"):
        make.image(f"{split}/{split}.jpg")
        make.text(f"{split}/_annotations.csv", f"{split}.jpg,1,1,9,9,cat\n")
    splits = read(make.root)
    assert [split.name(0) for split in splits.given] == ["train/train.jpg", "valid/valid.jpg"]
    make.text("train/more.csv", "train.jpg,1,1,9,9,cat\n")
    with pytest.raises(UsageError, match=r"_annotations\.csv and train/more\.csv both hold train"):
        read(make.root)


def test_groups_of_objects_are_crowd(make):
    make.image("a.jpg")
    make.text("a.csv", "image,x1,y1,x2,y2,label,IsGroupOf\na.jpg,1,1,9,9,cat,1\na.jpg,1,1,9,9,cat,0\n")
    assert read(make.root).train.truth.crowd.tolist() == [True, False]


def test_faulty_rows_are_named_and_left_out(make):
    make.image("a.jpg")
    rows = ["image,x1,y1,x2,y2,label", "a.jpg,1,1,9,9,cat", "a.jpg,1,1,9,,cat", "a.jpg,1,1,9,x,cat"]
    rows += ["a.jpg,1,1,9,9,", "a.jpg,1", "a.jpg,9,1,1,9,cat", "a.jpg,1,1,1,9,cat", "a.jpg,nan,1,9,9,cat"]
    rows += ["b.jpg,1,1,9,9,cat", "b.jpg,1,1,8,8,cat", "../a.jpg,1,1,9,9,cat"]
    make.text("train.csv", "\n".join(rows))
    split = read(make.root).train
    assert split.truth.boxes_xyxy.tolist() == [[1, 1, 9, 9]]
    assert names(split.problems) == ["unreadable-row"] * 4 + [
        "image-missing",
        "image-path-outside",
        "non-finite-box",
        "inverted-box",
        "zero-area-box",
    ]
    assert split.problems[4].detail == "it names 'b.jpg'"


def test_a_column_of_boxes_with_other_counts_is_a_fault(make):
    make.image("a.jpg")
    make.text("a.csv", 'image,bbox,label\na.jpg,"[1, 2, 3, 4]",cat\na.jpg,"[1, 2, 3]",cat\n')
    assert read(make.root).train.problems[0].detail == "line 3: its box has 3 numbers, where 4 are wanted"


def test_other_tables_are_no_boxes(make):
    make.image("a.jpg")
    make.text("a.csv", "image,size\na.jpg,7\n")
    make.text("b.csv", "1,2,3\n")
    make.text("c.csv", "")
    with pytest.raises(UsageError, match="holds no data set"):
        read(make.root)


def test_without_objects_there_is_nothing_to_learn(make):
    make.image("a.jpg")
    with pytest.raises(DataError, match=r"a\.csv hold no object"):
        read(make.text("a.csv", "a.jpg,,,,,\n"))


def test_an_absurd_cell_is_refused(make):
    make.image("a.jpg")
    make.text("a.csv", "a.jpg,1,1,9,9,cat\n" + "a.jpg,1,1,9,9," + "x" * 200_000)
    with pytest.raises(DataError, match="line 2: field larger than field limit"):
        read(make.root)
